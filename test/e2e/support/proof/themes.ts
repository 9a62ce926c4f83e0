import { text } from "../api.ts";
import { createIssuer, type Issued, issue, NEW_KEY, outsideCa, revoke, signBelow } from "../scene.ts";
import { must } from "../shell.ts";
import { type Album, type Ca, REASONS, serialOf } from "./album.ts";

/** A name as operators have it: pkilint takes no "localhost" in a URL. */
export const PUBLIC_URL = "http://pki.example.com";

export type Theme = (album: Album) => Promise<void>;

/** Everything that is looked at, each theme on CAs of its own. */
export const THEMES: Readonly<Record<string, Theme>> = {
  "CAs of every key": async (album) => {
    const plain = Object.keys(NEW_KEY).map((key_algorithm) => ({ key_algorithm }));
    const pss = ["RSA-2048", "RSA-3072", "RSA-4096"].map((key_algorithm) => ({ key_algorithm, rsa_pss: true }));
    await all([...plain, ...pss], (config) => everythingOf(album, config));
  },
  "leaves of every key": async (album) => {
    for (const key_algorithm of ["ECDSA-P256", "RSA-2048"]) {
      const ca = await root(album, `keys-${key_algorithm.toLowerCase()}`, { key_algorithm });
      await all(Object.keys(NEW_KEY), async (key) =>
        album.leaf(await issue(album.scene, ca.id, `${ca.id}-${key.toLowerCase()}`, { key })),
      );
    }
  },
  "leaves of every name": async (album) => {
    const ca = await root(album, "names");
    await all(Object.entries(NAMES), async ([name, [commonName = "", ...sans]]) =>
      album.leaf(await issue(album.scene, ca.id, `names-${name}`, { commonName, sans })),
    );
  },
  "leaves of every profile": async (album) => {
    const ca = await root(album, "profiles");
    await all(Object.entries(PROFILES), async ([name, profile]) => {
      const id = `prof-${name}`;
      const allowed_key_algorithms = [
        { algorithm: "RSA", min_size: 2048 },
        { algorithm: "ECDSA", min_size: 256 },
      ];
      const body = { id, name, max_ttl_seconds: 86_400, allowed_key_algorithms, ...profile };
      await album.scene.admin.post("/api/v1/profiles", body);
      const mail = profile.allowed_ekus?.includes("emailProtection") ? { commonName: `${name}@example.com` } : {};
      for (const key of ["ECDSA-P256", "RSA-2048"])
        await album.leaf(await issue(album.scene, ca.id, `${id}-${key.toLowerCase()}`, { key, profile: id, ...mail }));
    });
  },
  "certificates beyond 2050": async (album) => {
    const ca = await root(album, "long", { ca_validity_days: 36_525, validity_days: 36_000 });
    await album.scene.admin.post("/api/v1/profiles", { id: "prof-long", name: "Long" });
    const issued = await issue(album.scene, ca.id, "long", { profile: "prof-long" });
    const { text } = await must("openssl", ["x509", "-in", issued.leaf, "-noout", "-enddate"]);
    if (!/ 21\d\d GMT/.test(text)) throw new Error(`ends too soon: ${text}`);
    await album.leaf(issued);
    await album.answer(ca, issued, { status: "good" });
    await album.list(ca, {});
  },
  "CAs below": async (album) => {
    const top = await root(album, "tree", { organization: "Example", country: "CH", path_len_constraint: 2 });
    const upper = await below(album, top, top, "Upper", { path_len_constraint: 1, name_constraints: CONSTRAINTS });
    const lower = await below(album, top, upper, "Lower", {
      ...{ path_len_constraint: 0, name_constraints: CONSTRAINTS, ttl_days: 180 },
      subject: { common_name: "Lower", organization: "Example", organizational_unit: "Unit", country: "CH" },
    });
    await album.scene.admin.send("PUT", `/api/v1/issuers/${top.id}`, { config: { issuing_ca_id: lower.id } });
    const good = await issue(album.scene, top.id, "tree-good", { sans: INSIDE });
    const bad = await issue(album.scene, top.id, "tree-bad");
    await album.leaf(good);
    await revoke(album.scene, bad, "cessationOfOperation");
    await album.answer(lower, good, { status: "good" });
    await album.answer(lower, bad, { status: "revoked", reason: "cessationOfOperation" });
    // The issuer answers for its intermediates too, and about them.
    await album.answer(lower, good, { status: "good", hash: "SHA-256" }, top.id);
    await album.answer(top, { leaf: upper.pem, serial: await serialOf(upper.pem) }, { status: "good" });
    await album.list(lower, { [bad.serial]: "cessationOfOperation" });
    const others = await all(Object.keys(NEW_KEY), (algorithm) =>
      below(album, top, top, `Other ${algorithm}`, { algorithm }),
    );
    const [retired] = others;
    if (!retired) throw new Error("no CA below");
    const path = `/api/v1/intermediates/${retired.id}/retire`;
    await album.scene.admin.post(path);
    await album.scene.admin.post(path, { confirm: true, reason: "superseded" });
    const serial = await serialOf(retired.pem);
    await album.answer(top, { leaf: retired.pem, serial }, { status: "revoked", reason: "superseded" });
    await album.list(top, { [serial]: "superseded" });
  },
  "CAs brought in": async (album) => {
    const { scratch, admin } = album.scene;
    await all(["ECDSA-P256", "ECDSA-P384", "RSA-2048", "RSA-3072"], async (key) => {
      const name = `brought-${key.toLowerCase()}`;
      await outsideCa(scratch, name, NEW_KEY[key] ?? []);
      await signsAsBefore(album, name, { ca_cert_pem: scratch.read(`${name}.pem`), ...keyOf(album, name), ...PAST });
    });
    await outsideCa(scratch, "far", NEW_KEY["RSA-2048"] ?? [], "nameConstraints=critical,permitted;DNS:example.com\n");
    await must("openssl", [
      ...["req", "-new", ...(NEW_KEY["ECDSA-P256"] ?? []), "-nodes", "-keyout", scratch.file("near.key")],
      ...["-subj", "/O=Example/CN=near", "-out", scratch.file("near.csr")],
    ]);
    await signBelow(scratch, "far", "near", scratch.file("near.csr"));
    const ca_cert_pem = scratch.read("near.pem") + scratch.read("far.pem");
    await signsAsBefore(album, "near", { ca_cert_pem, ...keyOf(album, "near") });
    // The responder's name has to lie inside the constraint as well.
    const inside = "nameConstraints=critical,permitted;dirName:inside\n[inside]\nO=Inside\n";
    await outsideCa(scratch, "walled", NEW_KEY["ECDSA-P256"] ?? [], inside);
    const id = "prof-inside";
    await admin.post("/api/v1/profiles", { id, name: id, subject: { organization: "Inside" } });
    await signsAsBefore(album, "walled", { ca_cert_pem: scratch.read("walled.pem"), ...keyOf(album, "walled") }, id);
  },
  "a CA with its key inside and a root outside": async (album) => {
    const { scratch, admin } = album.scene;
    await outsideCa(scratch, "offline", NEW_KEY["ECDSA-P384"] ?? []);
    const config = { subordinate: true, ca_common_name: "Subordinate", key_algorithm: "ECDSA-P256" };
    const made = await admin.post("/api/v1/issuers", { id: "iss-sub", name: "Sub", type: "GenericCA", config });
    const csr = text(made.config as Readonly<Record<string, unknown>>, "ca_csr_pem");
    await signBelow(scratch, "offline", "sub", scratch.write("sub.csr", csr));
    const ca_cert_pem = scratch.read("sub.pem") + scratch.read("offline.pem");
    await admin.send("PUT", "/api/v1/issuers/iss-sub", { config: { ca_cert_pem } });
    await signs(album, "sub");
  },
  lists: async (album) => {
    const empty = await root(album, "empty");
    await album.list(empty, {});
    const reasons = await root(album, "reasons");
    const each = await all(Object.keys(REASONS), async (reason) => {
      const issued = await issue(album.scene, reasons.id, `reason-${reason.toLowerCase()}`);
      await revoke(album.scene, issued, reason);
      return [issued.serial, reason] as const;
    });
    await Promise.all([album.list(reasons, Object.fromEntries(each)), hold(album), partitions(album), large(album)]);
  },
  answers: async (album) => {
    const ca = await root(album, "answers");
    const leaf = await issue(album.scene, ca.id, "answers-leaf");
    for (const hash of ["SHA-1", "SHA-256", "SHA-384", "SHA-512"])
      for (const method of ["GET", "POST"] as const)
        for (const nonce of [true, false]) {
          await album.answer(ca, leaf, { status: "good", hash, method, nonce });
          await album.answer(ca, STRANGER, { status: "unknown", hash, method, nonce });
        }
    await all(Object.keys(REASONS), async (reason) => {
      const issued = await issue(album.scene, ca.id, `answers-${reason.toLowerCase()}`);
      await revoke(album.scene, issued, reason);
      for (const nonce of [true, false]) await album.answer(ca, issued, { status: "revoked", reason, nonce });
    });
  },
};

const STRANGER = { leaf: null, serial: "1234567890abcdef1234567890abcdef" };

const LONG = `${"a".repeat(60)}.${"b".repeat(60)}.example.com`;

/** The common name, then further names. */
const NAMES: Readonly<Record<string, readonly string[]>> = {
  dns: ["one.example.com", "two.example.com", "a.b.c.d.example.com"],
  wildcard: ["*.example.com", "example.com"],
  idn: ["xn--mnchen-3ya.example.com", "bücher.example.com"],
  single: ["intranet"],
  long: [LONG],
  ipv4: ["10.1.2.3", "192.0.2.1"],
  ipv6: ["2001:db8::1", "::1"],
  email: ["someone@example.com", "Some.One+tag@mail.example.com"],
  uri: ["https://example.com/path?query=1#part", "ldap://ldap.example.com:389/dc=example"],
  urn: ["urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "urn:example:thing"],
  spiffe: ["spiffe://example.com/ns/prod/sa/web"],
  underscore: ["spiffe://trust_domain.example.com/workload"],
  everything: [
    "all.example.com",
    "10.9.8.7",
    "2001:db8::2",
    "all@example.com",
    "urn:example:all",
    "spiffe://example.com/a",
  ],
  many: Array.from({ length: 100 }, (_, i) => `host-${i}.example.com`),
};

const PROFILES: Readonly<
  Record<string, { readonly allowed_ekus?: readonly string[]; readonly [more: string]: unknown }>
> = {
  server: { allowed_ekus: ["serverAuth"] },
  client: { allowed_ekus: ["clientAuth"] },
  code: { allowed_ekus: ["codeSigning"] },
  mail: { allowed_ekus: ["emailProtection"] },
  time: { allowed_ekus: ["timeStamping"] },
  both: { allowed_ekus: ["serverAuth", "clientAuth"] },
  person: { allowed_ekus: ["clientAuth", "emailProtection"] },
  mixed: { allowed_ekus: ["serverAuth", "clientAuth", "codeSigning", "emailProtection"] },
  staple: { allowed_ekus: ["serverAuth"], must_staple: true },
  subject: { subject: { organization: "Exämple AG", organizational_unit: "Unit", country: "CH" } },
  short: { max_ttl_seconds: 600, allow_short_lived: true },
};

const CONSTRAINTS = [
  {
    permitted: ["DNS:example.com", "IP:10.0.0.0/8", "IP:2001:db8::/32", "email:example.com", "URI:.example.com"],
    excluded: ["DNS:secret.example.com", "IP:10.9.0.0/16", "email:root@example.com"],
  },
];

/** Names that these constraints allow. */
const INSIDE = ["tree.example.com", "10.1.2.3", "2001:db8::1", "someone@example.com", "https://www.example.com/"];

/** What an outside CA revoked before it came, for every reason, with serials of every length, and its last number. */
const PAST = {
  crl_number_floor: "123456789012345678901234567890123456789012345",
  revocations: Object.keys(REASONS).map((reason, i) => ({
    serial_number: ["1", "7f", "80", "ff00", "7fffffffffffffff", "8000000000000000", "f".repeat(38), "7".repeat(40)][i],
    revoked_at: `${2015 + i}-01-02T03:04:05Z`,
    reason,
  })),
};

function all<T, R>(values: readonly T[], each: (value: T) => Promise<R>): Promise<R[]> {
  return Promise.all(values.map(each));
}

async function root(album: Album, name: string, config: Readonly<Record<string, unknown>> = {}): Promise<Ca> {
  const id = `iss-proof-${name}`;
  await createIssuer(album.scene, id, { ca_common_name: `Root ${name}`, key_algorithm: "ECDSA-P256", ...config });
  return album.ca(id);
}

async function below(
  album: Album,
  top: Ca,
  parent: Ca,
  name: string,
  more: Readonly<Record<string, unknown>>,
): Promise<Ca> {
  const body = { name, subject: { common_name: name }, algorithm: "ECDSA-P256", ttl_days: 365, ...more };
  const parent_ca_id = parent === top ? null : parent.id;
  const made = await album.scene.admin.post(`/api/v1/issuers/${top.id}/intermediates`, { parent_ca_id, ...body });
  return album.ca(text(made, "id"), parent);
}

/** A root with one good and one revoked leaf, its list, and an answer of each status with each CertID. */
async function everythingOf(album: Album, config: { key_algorithm: string; rsa_pss?: boolean }): Promise<void> {
  const { scene } = album;
  const ca = await root(album, `${config.key_algorithm.toLowerCase()}${config.rsa_pss ? "-pss" : ""}`, config);
  const good = await issue(scene, ca.id, `${ca.id}-good`);
  const bad = await issue(scene, ca.id, `${ca.id}-bad`);
  await album.leaf(good);
  await revoke(scene, bad, "superseded");
  for (const hash of ["SHA-1", "SHA-256"]) {
    await album.answer(ca, good, { status: "good", hash });
    await album.answer(ca, bad, { status: "revoked", reason: "superseded", hash });
    await album.answer(ca, STRANGER, { status: "unknown", hash });
  }
  await album.list(ca, { [bad.serial]: "superseded" });
}

const keyOf = (album: Album, name: string) => ({ ca_key_pem: album.scene.scratch.read(`${name}.key`) });

/** A CA comes in, and signs: what it revoked before is in its list and its answers. */
async function signsAsBefore(
  album: Album,
  name: string,
  config: Partial<typeof PAST> & { ca_cert_pem: string },
  profile?: string,
): Promise<void> {
  await createIssuer(album.scene, `iss-${name}`, config);
  await signs(album, name, config.revocations, profile);
}

async function signs(album: Album, name: string, revoked: typeof PAST.revocations = [], profile?: string) {
  const id = `iss-${name}`;
  const issued = await issue(album.scene, id, `under-${name}`, profile === undefined ? {} : { profile });
  await album.leaf(issued);
  const ca: Ca = { id, pem: issued.issuer, root: issued.root, chain: issued.chain };
  await album.answer(ca, issued, { status: "good" });
  const past = revoked.map(({ serial_number, reason }) => [serial_number ?? "", reason] as const);
  for (const [serial, reason] of past) await album.answer(ca, { leaf: null, serial }, { status: "revoked", reason });
  await album.list(ca, Object.fromEntries(past));
}

/** A list with a certificate on hold, and the one after the hold was lifted. */
async function hold(album: Album): Promise<void> {
  const ca = await root(album, "hold");
  const held = await issue(album.scene, ca.id, "hold-held");
  await revoke(album.scene, held, "certificateHold");
  await album.list(ca, { [held.serial]: "certificateHold" });
  await album.answer(ca, held, { status: "revoked", reason: "certificateHold" });
  await album.scene.admin.post(`/api/v1/certificates/${held.certificateId}/release-hold`);
  await album.list(ca, {});
  await album.answer(ca, held, { status: "good" });
}

/** The list of each partition, each with its own certificates, and the whole list. */
async function partitions(album: Album): Promise<void> {
  const ca = await root(album, "partitions", { crl_shards: 3 });
  const revoked = await all(["a", "b", "c", "d", "e", "f"], async (name) => {
    const issued = await issue(album.scene, ca.id, `partitions-${name}`);
    await album.leaf(issued);
    await revoke(album.scene, issued, "superseded");
    return { point: await pointOf(issued), entry: [issued.serial, "superseded"] as const };
  });
  await album.list(ca, Object.fromEntries(revoked.map(({ entry }) => entry)));
  for (const shard of [1, 2, 3]) {
    const point = `${PUBLIC_URL}/.well-known/pki/crl/${ca.id}/${shard}`;
    const own = revoked.filter((one) => one.point === point);
    await album.list(ca, Object.fromEntries(own.map(({ entry }) => entry)), point);
  }
}

async function pointOf({ leaf }: Issued): Promise<string> {
  const { text } = await must("openssl", ["x509", "-in", leaf, "-noout", "-ext", "crlDistributionPoints"]);
  return /URI:(\S+)$/m.exec(text)?.[1] ?? "";
}

/** A list of some thousand entries. */
async function large(album: Album): Promise<void> {
  const { scratch } = album.scene;
  await outsideCa(scratch, "large", NEW_KEY["ECDSA-P256"] ?? []);
  const reasons = Object.keys(REASONS);
  const revocations = Array.from({ length: 3_000 }, (_, i) => ({
    serial_number: (0x10_0000 + i * 7919).toString(16),
    revoked_at: new Date(Date.UTC(2024, 0, 1) + i * 60_000).toISOString(),
    reason: reasons[i % reasons.length] ?? "",
  }));
  const config = { ca_cert_pem: scratch.read("large.pem"), ...keyOf(album, "large"), revocations };
  await createIssuer(album.scene, "iss-large", config);
  const ca = await album.ca("iss-large");
  await album.list(ca, Object.fromEntries(revocations.map(({ serial_number, reason }) => [serial_number, reason])));
}
