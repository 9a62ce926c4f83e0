import { exports } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { parseCertificate } from "../../src/pki/certificate.ts";
import type { Subtree } from "../../src/pki/name-constraints.ts";
import { encodeName, formatName, parseName, type SubjectName } from "../../src/pki/names.ts";
import { parseOcspResponse } from "../../src/pki/ocsp.ts";
import { administrator, type Client } from "../support/api.ts";
import { outsideCa } from "../support/outside-ca.ts";

let api: Client;

beforeAll(async () => {
  api = await administrator();
});

function directory(subject: SubjectName): Subtree {
  const name = parseName(encodeName(subject));
  return { type: "directory", value: formatName(name), name };
}

async function brought(subject: SubjectName, permitted: readonly Subtree[], excluded: readonly Subtree[] = []) {
  const constrained = permitted.length + excluded.length > 0;
  const root = await outsideCa({ subject, ...(constrained ? { nameConstraints: { permitted, excluded } } : {}) });
  const config = { ca_cert_pem: root.cert_pem, ca_key_pem: root.key_pem };
  const { id } = await api.create<{ id: string }>("/api/v1/issuers", {
    name: crypto.randomUUID(),
    type: "GenericCA",
    config,
  });
  return id;
}

async function ask(id: string) {
  const response = await exports.default.fetch(new Request(`http://localhost/.well-known/pki/ocsp/${id}/01`));
  return { status: response.status, answer: parseOcspResponse(new Uint8Array(await response.arrayBuffer())) };
}

async function responderName(id: string): Promise<string> {
  const [der] = (await ask(id)).answer.basic?.certificates ?? [];
  if (!der) throw new Error("no responder");
  return formatName(parseCertificate(der).subject);
}

/** An issuer's test asks for the first list too, which is published soon. */
async function tested(id: string) {
  return await expect.poll(async () => (await api.post(`/api/v1/issuers/${id}/test`)).status, { timeout: 20_000 });
}

describe("the OCSP responder's name", () => {
  const own = { country: "DE", organization: "Elsewhere", organizational_unit: "PKI", common_name: "Constrained" };

  it("has the place and the organization of its CA", async () => {
    expect(await responderName(await brought(own, []))).toBe(
      "CN=OCSP Responder of Constrained,OU=PKI,O=Elsewhere,C=DE",
    );
    expect(await responderName(await brought({ common_name: "Alone" }, []))).toBe("CN=OCSP Responder of Alone");
  });

  it("is inside a permitted dirName, be it the CA's own or another one", async () => {
    const inside = await brought(own, [directory({ country: "DE", organization: "Elsewhere" })]);
    expect(await responderName(inside)).toBe("CN=OCSP Responder of Constrained,OU=PKI,O=Elsewhere,C=DE");
    await (await tested(inside)).toBe(200);
    const beside = await brought(own, [
      directory({ country: "DE", organization: "Customer", organizational_unit: "Web" }),
    ]);
    expect(await responderName(beside)).toBe("CN=OCSP Responder of Constrained,OU=Web,O=Customer,C=DE");
    await (await tested(beside)).toBe(200);
  });

  it("is outside an excluded dirName", async () => {
    const excluded = await brought(own, [], [directory({ country: "DE", organization: "Elsewhere" })]);
    expect(await responderName(excluded)).toBe("CN=OCSP Responder of Constrained");
    await (await tested(excluded)).toBe(200);
  });

  it("that no name can be is told by the issuer's test, and OCSP says unauthorized", async () => {
    const id = await brought(own, [directory({ common_name: "Only this" })]);
    const answer = await api.post(`/api/v1/issuers/${id}/test`);
    expect(answer).toMatchObject({
      status: 400,
      body: {
        error: "connection_test_failed",
        message: expect.stringMatching(
          /OCSP responder.*name_constraints_hold.*outside the permitted dirName:CN=Only this/,
        ),
      },
    });
    expect(await ask(id)).toMatchObject({ status: 200, answer: { status: "unauthorized" } });
    expect((await api.get<{ test_status: string }>(`/api/v1/issuers/${id}`)).body.test_status).toBe("failed");
  });
});
