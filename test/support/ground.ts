/** Creates something by the API and answers it. */
export type Create = (path: string, body: Readonly<Record<string, unknown>>) => Promise<Record<string, unknown>>;

/** What stands around certificates: an issuer, a team, an owner, a renewal policy, and an agent with its target. */
export interface Ground {
  readonly issuerId: string;
  readonly agentId: string;
  readonly agentKey: string;
  readonly targetId: string;
  /** What a certificate record needs besides its names and targets. */
  readonly record: Readonly<Record<string, string>>;
}

/** `name` keeps several apart on one server. */
export async function makeGround(
  create: Create,
  name: string,
  issuerConfig: Readonly<Record<string, unknown>> = {},
): Promise<Ground> {
  const idOf = async (path: string, body: Readonly<Record<string, unknown>>) => String((await create(path, body)).id);
  const config = { ca_common_name: `${name} Root`, key_algorithm: "ECDSA-P256", ...issuerConfig };
  const issuer_id = await idOf("/api/v1/issuers", { id: `iss-${name}`, name, type: "GenericCA", config });
  const team_id = await idOf("/api/v1/teams", { name });
  const owner_id = await idOf("/api/v1/owners", { name, email: `${name}@example.com`, team_id });
  const renewal_policy_id = await idOf("/api/v1/renewal-policies", { name });
  const { id: agent_id, api_key } = await create("/api/v1/agents", { name, hostname: `${name}.example.com` });
  const targetId = await idOf("/api/v1/targets", { name, type: "NGINX", agent_id });
  return {
    issuerId: issuer_id,
    agentId: String(agent_id),
    agentKey: String(api_key),
    targetId,
    record: { issuer_id, team_id, owner_id, renewal_policy_id },
  };
}
