import { administrator, Client } from "./api.ts";

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
