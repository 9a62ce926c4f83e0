import { bareCsr, bootstrap, makeFleet, requestCertificate, submitCsr } from "../test/support/client.ts";

/** Fixtures of the HTTP benchmark: an issuer and certificates that it issued. */
export interface Seeded {
  readonly issuerId: string;
  /** PEM: leaf first, then the root. */
  readonly chains: readonly string[];
  /** Issues over HTTP with every row: record, job, CSR and pick-up of each certificate. */
  readonly issuancesPerSecond: number;
}

/** Bootstraps a fresh server and issues `count` certificates through the agent routes, `parallel` at a time. */
export async function seed(url: string, bootstrapToken: string, count: number, parallel = 8): Promise<Seeded> {
  const fleet = await makeFleet(await bootstrap(url, bootstrapToken), "bench");
  const csr = bareCsr();
  const chains: string[] = [];
  let next = 0;
  const worker = async () => {
    while (next < count) {
      const job = await requestCertificate(fleet, `host-${next++}.bench.example.com`);
      await submitCsr(fleet, job, csr);
      const picked = await fleet.agent.call("GET", `/api/v1/agents/${fleet.agentId}/certificates/${job.certificateId}`);
      chains.push(String(picked.certificate_pem));
    }
  };
  const began = performance.now();
  await Promise.all(Array.from({ length: parallel }, worker));
  return { issuerId: fleet.issuerId, chains, issuancesPerSecond: count / ((performance.now() - began) / 1000) };
}
