import { env } from "cloudflare:workers";
import { type Issued, type IssueRequest, type Ledger, ledgerOf } from "../../src/authority/ledger.ts";
import { generateKeyPair } from "../../src/pki/keys.ts";
import type { Bindings } from "../../src/platform/context.ts";

const bindings = env as unknown as Bindings;

/** The id of the ledger of a CA, as public URLs name that. */
export async function ledgerIdOf(caId: string): Promise<string> {
  const row = await bindings.DB.prepare("select ledger_id from certificate_authorities where ca_id = ?")
    .bind(caId)
    .first<{ ledger_id: string }>();
  if (!row) throw new Error(`no CA ${caId}`);
  return row.ledger_id;
}

export async function ledgerOfCa(caId: string): Promise<Ledger> {
  return ledgerOf({ bindings }, await ledgerIdOf(caId));
}

/** A leaf of a ledger that no inventory knows, for the record `mc-NAME`. */
export async function issueLeaf(ledger: Ledger, name: string, changes: Partial<IssueRequest> = {}): Promise<Issued> {
  const { spki } = await generateKeyPair("ECDSA-P256");
  const [issued] = await ledger.issue([
    {
      request_id: `job-${name}`,
      certificate_id: `mc-${name}`,
      subject: { common_name: "leaf.test" },
      sans: [{ type: "dns", value: "leaf.test" }],
      spki,
      ekus: ["serverAuth"],
      must_staple: false,
      ttl_seconds: 86_400,
      settle: {},
      ...changes,
    },
  ]);
  if (!issued?.ok) throw new Error(`not issued: ${JSON.stringify(issued)}`);
  return issued;
}
