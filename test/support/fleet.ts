import { administrator, Client } from "./api.ts";
import { makeCsr } from "./csr.ts";

export interface Fleet {
  readonly admin: Client;
  readonly agent: Client;
  readonly agentId: string;
  readonly targetId: string;
  readonly issuerId: string;
  /** What a certificate record needs besides its names. */
  readonly record: Readonly<Record<string, string>>;
}

/** Administrator, issuer, team, owner, renewal policy, and an agent with its target. */
export async function makeFleet(): Promise<Fleet> {
  const admin = await administrator();
  const issuer = await admin.create("/api/v1/issuers", {
    name: "Test CA",
    type: "GenericCA",
    config: { ca_common_name: "Test Root", key_algorithm: "ECDSA-P256" },
  });
  const team = await admin.create("/api/v1/teams", { name: "Web" });
  const owner = await admin.create("/api/v1/owners", { name: "Alice", team_id: team.id });
  const policy = await admin.create("/api/v1/renewal-policies", { name: "Standard" });
  const { agent, agentId } = await addAgent(admin, "web-1");
  const target = await admin.create("/api/v1/targets", { name: "nginx", type: "NGINX", agent_id: agentId });
  return {
    admin,
    agent,
    agentId,
    targetId: String(target.id),
    issuerId: String(issuer.id),
    record: {
      issuer_id: String(issuer.id),
      team_id: String(team.id),
      owner_id: String(owner.id),
      renewal_policy_id: String(policy.id),
    },
  };
}

/** An agent and a client that holds its key. */
export async function addAgent(admin: Client, name: string): Promise<{ agent: Client; agentId: string }> {
  const registered = await admin.create("/api/v1/agents", { name, hostname: `${name}.example` });
  return { agent: new Client(String(registered.api_key)), agentId: String(registered.id) };
}

/** Issues one certificate by the agent's way; answers its record's id and its serial. */
export async function issueFor(fleet: Fleet, name: string): Promise<{ id: string; serial: string }> {
  const { admin, agent, agentId, record, targetId } = fleet;
  const body = { name, common_name: `${name}.example.test`, ...record, target_ids: [targetId] };
  const { id } = await admin.create<{ id: string }>("/api/v1/certificates", body);
  await admin.post(`/api/v1/certificates/${id}/renew`);
  const csr_pem = await makeCsr({ commonName: body.common_name });
  const signed = await agent.post(`/api/v1/agents/${agentId}/csr`, { certificate_id: id, csr_pem });
  if (signed.status !== 202) throw new Error(`CSR: ${signed.status} ${JSON.stringify(signed.body)}`);
  const { body: versions } = await admin.get<{ data: { serial_number: string }[] }>(
    `/api/v1/certificates/${id}/versions`,
  );
  return { id, serial: versions.data[0]?.serial_number ?? "" };
}
