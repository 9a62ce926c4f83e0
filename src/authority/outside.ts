import { z } from "@hono/zod-openapi";
import type { Context } from "../platform/context.ts";
import { invalid } from "../platform/errors.ts";
import { utf8 } from "../platform/text.ts";
import { type Ca, type CaType, type IssuerPart, NOTHING_TO_RECORD, type ShownIssuer } from "./ca.ts";
import { MASK, parseConfig } from "./config.ts";
import type { IssuerRow } from "./table.ts";

/** Issuers with an outside CA: turns a CA's adapter into a type of issuer. */

type Values = Record<string, unknown>;

/** An account at an outside CA: an issuer with its configuration, secrets in clear. */
export interface CaAccount<Config> {
  readonly issuer_id: string;
  readonly config: Config;
}

/** What an adapter provides. */
export interface OutsideCa<Shape extends z.ZodRawShape> {
  /** The fields of `config`. */
  readonly config: z.ZodObject<Shape>;
  /** The secret fields: sealed at rest, never returned. */
  readonly secrets: readonly (keyof Shape & string)[];
  connect(ctx: Context, account: CaAccount<z.output<z.ZodObject<Shape>>>): Ca;
  /** Gives up the account at the CA after the issuer was deleted. Retried until it succeeds. */
  end?(ctx: Context, account: CaAccount<z.output<z.ZodObject<Shape>>>): Promise<void>;
}

/** The type of issuer of an outside CA. */
export function outsideCa<Shape extends z.ZodRawShape>(adapter: OutsideCa<Shape>): CaType {
  const isSecret = (field: string): boolean => adapter.secrets.some((secret) => secret === field);
  const changes = z.strictObject(
    Object.fromEntries(
      Object.entries(adapter.config.shape).map(([name, schema]) => [name, (schema as unknown as z.ZodType).nullish()]),
    ),
  );

  const accountOf = async (ctx: Context, row: Stored): Promise<CaAccount<z.output<z.ZodObject<Shape>>>> => {
    const config = { ...row.config, ...(await openSecrets(ctx, row)) };
    return { issuer_id: row.id, config: adapter.config.parse(config) };
  };
  const connect = async (ctx: Context, row: IssuerRow) => adapter.connect(ctx, await accountOf(ctx, row));
  const partOf = async (ctx: Context, id: string, values: Values): Promise<IssuerPart> => {
    const config = Object.fromEntries(Object.entries(values).filter(([field]) => !isSecret(field)));
    const secrets = Object.fromEntries(Object.entries(values).filter(([field]) => isSecret(field)));
    const sealed_config = await sealSecrets(ctx, id, secrets);
    const shown = shownOf({ config, sealed_config });
    return { config, sealed_config, statements: [], recording: NOTHING_TO_RECORD, details: {}, shown };
  };
  const shownOf = ({ config, sealed_config }: Pick<IssuerRow, "config" | "sealed_config">): ShownIssuer => ({
    config: { ...config, ...(sealed_config ? Object.fromEntries(adapter.secrets.map((name) => [name, MASK])) : {}) },
  });

  return {
    signing: connect,
    find: async (ctx, row, { ca_id }) => (ca_id === row.id ? connect(ctx, row) : null),

    creation(values) {
      const config = parseConfig(adapter.config, values);
      const masked = adapter.secrets.find((name) => config[name as keyof typeof config] === MASK);
      if (masked) throw invalid(`config.${masked}`, `${MASK} keeps a secret; a new issuer has none yet`);
      return (ctx, { id }) => partOf(ctx, id, config);
    },

    async change(ctx, before, { config: values }) {
      const asked = parseConfig<Values>(changes, values);
      const kept: Values = { ...before.config, ...(await openSecrets(ctx, before)) };
      for (const [field, value] of Object.entries(asked)) {
        if (value === undefined || (value === MASK && isSecret(field))) continue;
        if (value === null) delete kept[field];
        else kept[field] = value;
      }
      return partOf(ctx, before.id, parseConfig(adapter.config, kept));
    },

    show: async (_, rows) => new Map(rows.map((row) => [row.id, shownOf(row)])),
    leaving: async (_, { id, config, sealed_config }) => ({ statements: [], end: { id, config, sealed_config } }),
    async end(ctx, left) {
      if (adapter.end) await adapter.end(ctx, await accountOf(ctx, left as unknown as Stored));
    },
  };
}

/** The columns of an issuer's row that make its account. */
type Stored = Pick<IssuerRow, "id" | "config" | "sealed_config">;

const purposeOf = (id: string): string => `issuer|${id}`;

async function sealSecrets(ctx: Context, id: string, secrets: Values): Promise<string | null> {
  if (Object.keys(secrets).length === 0) return null;
  await ctx.sealer.register(ctx.db, ctx.clock.now());
  return ctx.sealer.seal(utf8(JSON.stringify(secrets)), purposeOf(id));
}

async function openSecrets(ctx: Context, { id, sealed_config }: Stored): Promise<Values> {
  if (sealed_config === null) return {};
  return JSON.parse(new TextDecoder().decode(await ctx.sealer.open(sealed_config, purposeOf(id))));
}
