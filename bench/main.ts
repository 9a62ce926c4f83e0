/** `npm run bench [-- codec http ...]`: runs the named suites, or all of them. */
const SUITES: Readonly<Record<string, () => Promise<void>>> = {
  codec: async () => (await import("./codec.ts")).benchCodec(),
  ledger: async () => (await import("./ledger.ts")).benchLedger(),
  http: async () => (await import("./http.ts")).benchHttp(),
  ocsp: async () => (await import("./ocsp.ts")).benchOcsp(),
  door: async () => (await import("./door.ts")).benchDoor(),
  auth: async () => (await import("./auth.ts")).benchAuth(),
  issuance: async () => (await import("./issuance.ts")).benchIssuance(),
  footprint: async () => (await import("./footprint.ts")).benchFootprint(),
};

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !(name in SUITES));
if (unknown.length > 0) {
  console.error(`no such suite: ${unknown.join(", ")}; there are ${Object.keys(SUITES).join(", ")}`);
  process.exit(2);
}
for (const name of asked.length > 0 ? asked : Object.keys(SUITES)) {
  console.log(`\n== ${name}`);
  await SUITES[name]?.();
}

export {};
