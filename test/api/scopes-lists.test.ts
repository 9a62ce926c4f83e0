import { beforeAll, describe, expect, it } from "vitest";
import { actorWith, type InScope, ofIssuer, ofProfile } from "../support/actors.ts";
import type { Client } from "../support/api.ts";
import type { Fleet } from "../support/fleet.ts";
import { adminOf, CERTIFICATES, type Place, Places, told } from "../support/places.ts";

let places: Places;
let fleet: Fleet;
let mine: Place;
let other: Place;
let foreign: { readonly certificate: string };

beforeAll(async () => {
  places = await Places.make();
  ({ fleet, mine, other } = places);
  foreign = { certificate: await places.foreign("certificate") };
});

interface List {
  readonly data: readonly { readonly id: string }[];
  readonly total: number;
}

const list = async (actor: Client, path: string) => {
  const answer = await actor.get<List>(path);
  expect(answer.status, `${path}: ${JSON.stringify(answer.body)}`).toBe(200);
  return { ids: answer.body.data.map((row) => row.id), total: answer.body.total };
};

describe("a list", () => {
  it("of certificates, its total, filters, orders and pages know what the actor may see and nothing else", async () => {
    const place: Place = { profile: await places.profile("listed"), issuer: await places.issuer("listed") };
    const a = await places.record({ ...place, issuer: other.issuer });
    const b = await places.record({ ...place, profile: other.profile });
    const both = await places.record(place);
    const bare = String((await places.admin.create(CERTIFICATES, places.body({ issuer: place.issuer }))).id);
    await places.record(other);

    const byProfile = await adminOf(ofProfile(place.profile));
    const byIssuer = await adminOf(ofIssuer(place.issuer));
    const byBoth = await actorWith([
      { role_id: "r-viewer", ...ofProfile(place.profile) },
      { role_id: "r-viewer", ...ofIssuer(place.issuer) },
    ]);
    expect(await list(byProfile, CERTIFICATES)).toEqual({ ids: [a, both], total: 2 });
    expect(await list(byIssuer, CERTIFICATES)).toEqual({ ids: [b, both, bare], total: 3 });
    expect(await list(byBoth, CERTIFICATES)).toEqual({ ids: [a, b, both, bare], total: 4 });

    expect(await list(byProfile, `${CERTIFICATES}?issuer_id=${other.issuer}`)).toEqual({ ids: [a], total: 1 });
    expect(await list(byProfile, `${CERTIFICATES}?profile_id=${other.profile}`)).toEqual({ ids: [], total: 0 });
    expect(await list(byIssuer, `${CERTIFICATES}?issuer_id=${other.issuer}`)).toEqual({ ids: [], total: 0 });
    expect(await list(byIssuer, `${CERTIFICATES}?owner_id=${fleet.record.owner_id}&agent_id=${fleet.agentId}`)).toEqual(
      {
        ids: [b, both, bare],
        total: 3,
      },
    );
    for (const sort of ["name", "commonName", "createdAt", "status"]) {
      const up = (await list(byBoth, `${CERTIFICATES}?sort=${sort}`)).ids;
      const down = (await list(byBoth, `${CERTIFICATES}?sort=-${sort}`)).ids;
      expect([...up].sort(), sort).toEqual([a, b, both, bare].sort());
      expect(down, sort).toEqual([...up].reverse());
    }
    const pages = await Promise.all([1, 2, 3].map((page) => list(byIssuer, `${CERTIFICATES}?per_page=1&page=${page}`)));
    expect(pages).toEqual([b, both, bare].map((id) => ({ ids: [id], total: 3 })));
    expect(await list(byIssuer, `${CERTIFICATES}?per_page=2&page=3`)).toEqual({ ids: [], total: 3 });
  });

  it("of many scopes shows each row once", async () => {
    const profiles = [await places.profile("many"), await places.profile("many"), await places.profile("many")];
    const ids = [];
    for (const profile of profiles) ids.push(await places.record({ profile }));
    const actor = await actorWith([
      ...profiles.map((profile) => ({ role_id: "r-viewer", ...ofProfile(profile) })),
      { role_id: "r-operator", ...ofProfile(profiles[0] ?? "") },
    ]);
    expect(await list(actor, CERTIFICATES)).toEqual({ ids, total: 3 });
  });

  it("of jobs goes by their certificates", async () => {
    const place = { profile: await places.profile("jobs"), issuer: await places.issuer("jobs") };
    const certificate = await places.issued(place);
    const job = await places.jobOf(certificate);
    for (const scope of [ofProfile(place.profile), ofIssuer(place.issuer)]) {
      const actor = await adminOf(scope);
      expect(await list(actor, "/api/v1/jobs")).toEqual({ ids: [job], total: 1 });
      expect(await list(actor, `/api/v1/jobs?certificate_id=${certificate}`)).toEqual({ ids: [job], total: 1 });
      expect(await list(actor, `/api/v1/jobs?certificate_id=${foreign.certificate}`)).toEqual({ ids: [], total: 0 });
      expect(await list(actor, "/api/v1/jobs?certificate_id=none")).toEqual({ ids: [], total: 0 });
    }
  });

  it("of profiles and of issuers shows those of the scope; the other kind's scope shows none", async () => {
    const byProfile = await adminOf(ofProfile(mine.profile));
    const byIssuer = await adminOf(ofIssuer(mine.issuer));
    expect(await list(byProfile, "/api/v1/profiles")).toEqual({ ids: [mine.profile], total: 1 });
    expect(await list(byProfile, "/api/v1/issuers")).toEqual({ ids: [], total: 0 });
    expect(await list(byIssuer, "/api/v1/issuers")).toEqual({ ids: [mine.issuer], total: 1 });
    expect(await list(byIssuer, "/api/v1/profiles")).toEqual({ ids: [], total: 0 });
  });

  it("of revocation lists shows those of the scope's issuer", async () => {
    interface Cache {
      readonly cache_rows: readonly { readonly issuer_id: string }[];
      readonly row_count: number;
    }
    const cache = async (scope: InScope) => {
      const { status, body } = await (await adminOf(scope)).get<Cache>("/api/v1/admin/crl/cache");
      expect(status).toBe(200);
      expect(body.row_count).toBe(body.cache_rows.length);
      return new Set(body.cache_rows.map((row) => row.issuer_id));
    };
    expect(await cache(ofIssuer(mine.issuer))).toEqual(new Set([mine.issuer]));
    expect(await cache(ofProfile(mine.profile))).toEqual(new Set());
  });

  it("is refused to who holds the right nowhere", async () => {
    const actor = await actorWith([{ role_id: "r-auditor", ...ofProfile(mine.profile) }]);
    for (const path of [CERTIFICATES, "/api/v1/jobs", "/api/v1/profiles", "/api/v1/issuers", "/api/v1/admin/crl/cache"])
      expect(told(await actor.get(path))).toMatchObject({ status: 403, error: "forbidden" });
  });
});
