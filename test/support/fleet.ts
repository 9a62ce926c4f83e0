import { administrator, Client } from "./api.ts";
import { makeCsr } from "./csr.ts";
import { type Ground, makeGround } from "./ground.ts";

export interface Fleet extends Omit<Ground, "agentKey"> {
  readonly admin: Client;
  readonly agent: Client;
}

/** An administrator and everything around certificates. */
export async function makeFleet(): Promise<Fleet> {
  const admin = await administrator();
  const { agentKey, ...ground } = await makeGround((path, body) => admin.create(path, body), "fleet");
  return { admin, agent: new Client(agentKey), ...ground };
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
