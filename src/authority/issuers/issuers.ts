import { eq, type SQL, sql } from "drizzle-orm";
import { forgetActors } from "../../identity/actors.ts";
import { endScope } from "../../identity/scope-end.ts";
import { visible } from "../../platform/access.ts";
import { commit, IdempotencyRace } from "../../platform/commit.ts";
import { type Context, timestamp } from "../../platform/context.ts";
import { up } from "../../platform/cursor.ts";
import {
  guard,
  ReferenceViolation,
  rowExists,
  type Statement,
  UniqueViolation,
  unchanged,
} from "../../platform/database.ts";
import { AppError, ChangedMeanwhile, conflict, invalid, notFound } from "../../platform/errors.ts";
import type { Page, PageRequest } from "../../platform/paging.ts";
import { ownScope } from "../../platform/resource.ts";
import { checkIfMatch, freeId, listPage, nextUpdatedAt, uniqueConflict } from "../../platform/rows.ts";
import { mustBeWhole } from "../../platform/whole.ts";
import { enqueue, type WorkKinds } from "../../platform/work/work.ts";
import { caTypeOf, findCa, type ShownIssuer } from "../ca.ts";
import { forgetAuthority } from "../local/public/directory.ts";
import { isCaId } from "../local/rows.ts";
import { type IssuerRow, issuers } from "../table.ts";

/** Issuers of every type; a CaType holds what is specific to one. */

/** An issuer in the API's form. */
export type IssuerView = Omit<IssuerRow, "config" | "sealed_config"> & ShownIssuer;

export interface IssuerFields {
  readonly id: string | undefined;
  readonly name: string;
  readonly type: string;
  readonly enabled: boolean;
  readonly config: Readonly<Record<string, unknown>>;
}

export async function createIssuer(ctx: Context, asked: IssuerFields): Promise<IssuerView> {
  const create = caTypeOf(ctx, asked.type).creation(asked.config);
  await mustBeWhole(ctx);
  const { name, type, enabled } = asked;
  const id = asked.id ?? (await freeId(ctx, issuers, "iss-", name));
  await refuseTaken(ctx, id, name);
  const part = await create(ctx, { id, name });
  const now = timestamp(ctx);
  const row: IssuerRow = {
    id,
    name,
    type,
    config: part.config,
    sealed_config: part.sealed_config,
    enabled,
    last_tested_at: null,
    test_status: "untested",
    created_at: now,
    updated_at: now,
  };
  const view = viewOf(row, part.shown);
  const statements = [
    ctx.db.insert(issuers).values(row),
    ...part.statements,
    ctx.audit("issuer.create", id, { name, type, ...part.details }),
    ...part.recording.statements,
  ];
  await save(ctx, statements, row, { status: 201, body: view });
  part.recording.done();
  return view;
}

function viewOf({ sealed_config: _, ...row }: IssuerRow, shown: ShownIssuer | undefined): IssuerView {
  return { ...row, ...shown };
}

/** For routes of an issuer `{id}`: the issuer is its own scope while it exists. */
export const issuerScope = ownScope(issuers, "issuer_id");

/** Condition: the issuer exists. */
export function issuerExists(id: string): SQL {
  return rowExists(issuers, eq(issuers.id, id));
}

export async function mustFindIssuer(ctx: Context, id: string): Promise<IssuerRow> {
  const [row] = await ctx.db.select().from(issuers).where(eq(issuers.id, id));
  if (!row) throw notFound("issuer", id);
  return row;
}

export async function getIssuer(ctx: Context, id: string): Promise<IssuerView> {
  const [view] = await viewsOf(ctx, [await mustFindIssuer(ctx, id)]);
  if (!view) throw new Error("one row has one view");
  return view;
}

/** One page of the issuers that the actor may see, with their total. */
export async function listIssuers(ctx: Context, page: PageRequest): Promise<Page<IssuerView>> {
  const { data, ...rest } = await listPage(ctx, issuers, page, {
    where: visible(ctx.actor, "issuer.read", { issuer_id: issuers.id }),
    order: [up(issuers.created_at), up(issuers.id)],
  });
  return { data: await viewsOf(ctx, data), ...rest };
}

async function viewsOf(ctx: Context, rows: readonly IssuerRow[]): Promise<IssuerView[]> {
  const types = [...Map.groupBy(rows, (row) => row.type)];
  const shown = await Promise.all(types.map(([type, of]) => caTypeOf(ctx, type).show(ctx, of)));
  return rows.map((row) => viewOf(row, shown.find((of) => of.has(row.id))?.get(row.id)));
}

export interface IssuerChanges {
  readonly name?: string | null | undefined;
  readonly type?: string | null | undefined;
  readonly enabled?: boolean | null | undefined;
  /** Accepts a CA certificate that expires before certificates it issued. */
  readonly force?: boolean | undefined;
  readonly config?: Readonly<Record<string, unknown>> | null | undefined;
}

/** Absent fields keep their value, also inside `config`. */
export async function updateIssuer(
  ctx: Context,
  id: string,
  changes: IssuerChanges,
  ifMatch: string | null,
): Promise<IssuerView> {
  const before = await mustFindIssuer(ctx, id);
  checkIfMatch(before, ifMatch);
  if (changes.name === null) throw invalid("name", "cannot be cleared");
  if (changes.type != null && changes.type !== before.type) throw invalid("type", "an issuer cannot change its type");
  const { config } = changes;
  const updated_at = nextUpdatedAt(ctx, before);
  const change = { config: config ?? {}, force: changes.force ?? false, updated_at };
  const part = await caTypeOf(ctx, before.type).change(ctx, before, change);
  const row: IssuerRow = {
    ...before,
    name: changes.name ?? before.name,
    enabled: changes.enabled ?? before.enabled,
    config: part.config,
    sealed_config: part.sealed_config,
    updated_at,
  };
  const fields = [...Object.keys(changes).filter((name) => name !== "config"), ...Object.keys(config ?? {})];
  const statements = [
    guard(unchanged(issuers, before), changedMeanwhile),
    ctx.db.update(issuers).set(row).where(eq(issuers.id, id)),
    ...part.statements,
    ctx.audit("issuer.update", id, { fields, ...part.details }),
    ...part.recording.statements,
  ];
  await save(ctx, statements, row);
  part.recording.done();
  return viewOf(row, part.shown);
}

const END_KIND = "issuer.end";

/**
 * Deletes the issuer, then ends it at its CA. 409 if it has issued certificates, records name it, or its type needs it.
 */
export async function deleteIssuer(ctx: Context, id: string, ifMatch: string | null): Promise<void> {
  const row = await mustFindIssuer(ctx, id);
  checkIfMatch(row, ifMatch);
  const leaving = await caTypeOf(ctx, row.type).leaving(ctx, row);
  const end = enqueue(ctx, END_KIND, { type: row.type, end: leaving.end });
  const statements = [
    guard(unchanged(issuers, row), changedMeanwhile),
    ...leaving.statements,
    ctx.db.delete(issuers).where(eq(issuers.id, id)),
    ...(await endScope(ctx, "issuer", id)),
    ctx.audit("issuer.delete", id, { name: row.name }),
    end.statement,
  ];
  try {
    await commit(ctx, statements, { wakeups: [end.id] });
    forgetAuthority(id);
    forgetActors();
  } catch (error) {
    if (error instanceof ReferenceViolation) {
      throw conflict("in_use", "certificates name this issuer or were issued by it; nothing was deleted");
    }
    throw error;
  }
}

export const issuerWork: WorkKinds = {
  [END_KIND]: {
    async run(ctx, { type, end }) {
      await caTypeOf(ctx, String(type)).end(ctx, end as Readonly<Record<string, unknown>>);
    },
  },
};

/** Asks the issuer's CA whether it can issue. 400 with the reason if not. */
export async function testIssuer(ctx: Context, id: string): Promise<void> {
  const row = await mustFindIssuer(ctx, id);
  const ca = await findCa(ctx, { issuer_id: id, ca_id: id });
  if (!ca) throw new Error(`issuer ${id} has no CA`);
  const flaw = await ca.test();
  const now = timestamp(ctx);
  await commit(ctx, [
    ctx.db
      .update(issuers)
      .set({ last_tested_at: now, test_status: flaw ? "failed" : "success" })
      .where(eq(issuers.id, row.id)),
    ctx.audit("issuer.test", id, { result: flaw ?? "success" }),
  ]);
  if (flaw) throw new AppError(400, "connection_test_failed", flaw);
}

// -------------------------------------------------------------------------------------------------------------- internal

/**
 * Checked early so that no key is made for nothing; the unique indexes have the last word. CA ids and issuer names
 * share URLs.
 */
async function refuseTaken(ctx: Context, id: string, name: string): Promise<void> {
  const [[taken], ca] = await Promise.all([
    ctx.db.select({ id: issuers.id }).from(issuers).where(sql`${issuers.id} = ${id} or ${issuers.name} = ${name}`),
    isCaId(ctx, id),
  ]);
  if (taken) {
    const field = taken.id === id ? "id" : "name";
    throw conflict("already_exists", `${field}: an issuer with this ${field} exists already`);
  }
  if (ca) throw idOfCa(id);
}

function idOfCa(id: string): AppError {
  return conflict("already_exists", `id: a CA of an issuer has the id ${JSON.stringify(id)} already`);
}

async function save(ctx: Context, statements: Statement[], row: IssuerRow, answer?: { status: number; body: unknown }) {
  try {
    await commit(ctx, statements, answer ? { answer } : {});
    forgetAuthority(row.id);
  } catch (error) {
    if (error instanceof IdempotencyRace) throw error;
    if (error instanceof UniqueViolation && error.columns.includes("certificate_authorities.ca_id"))
      throw idOfCa(row.id);
    if (error instanceof UniqueViolation) throw uniqueConflict("issuer", issuers, row, error);
    throw error;
  }
}

function changedMeanwhile(): AppError {
  return new ChangedMeanwhile("the issuer was changed by another request: read again and repeat");
}
