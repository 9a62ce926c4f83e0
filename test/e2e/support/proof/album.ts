import { readFileSync } from "node:fs";
import { fetchCa, type Issued, type Scene } from "../scene.ts";
import { eventually, must, run } from "../shell.ts";
import type { Artefact } from "./checkers.ts";

/** The reason codes of RFC 5280 section 5.3.1 that the API takes. */
export const REASONS: Readonly<Record<string, number>> = {
  unspecified: 0,
  keyCompromise: 1,
  caCompromise: 2,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
  certificateHold: 6,
  privilegeWithdrawn: 9,
};

/** A CA of the server, in PEM files: its certificate, the anchor above it, and both with all between. */
export interface Ca {
  readonly id: string;
  readonly pem: string;
  readonly root: string;
  readonly chain: string;
}

/** What is asked about: a certificate, or a serial that nobody issued. */
type Asked = { readonly leaf: string; readonly serial: string } | { readonly leaf: null; readonly serial: string };

interface Answer {
  readonly status: "good" | "revoked" | "unknown";
  readonly reason?: string;
  /** Of the CertID: `SHA-256`; SHA-1 unless told. */
  readonly hash?: string;
  readonly nonce?: boolean;
  /** RFC 6960 appendix A.1; POST unless told. */
  readonly method?: "GET" | "POST";
}

/** As the Go program has serials: hex without leading zeros. */
const plain = (serial: string) => serial.replace(/^0+(?=.)/, "");

export async function serialOf(pem: string): Promise<string> {
  const { text: line } = await must("openssl", ["x509", "-in", pem, "-noout", "-serial"]);
  return line.trim().replace("serial=", "").toLowerCase();
}

/** Artefacts that the server made, each with what it must be. */
export class Album {
  readonly artefacts: Artefact[] = [];
  readonly scene: Scene;
  readonly theme: string;

  constructor(scene: Scene, theme: string) {
    this.scene = scene;
    this.theme = theme;
  }

  /** The certificate of a CA of the server; `issuer` is the CA of the server that signed it, none for a root. */
  async ca(id: string, issuer: Ca | null = null): Promise<Ca> {
    const pem = await fetchCa(this.scene, id);
    const above = issuer === null ? { Issuer: "" } : { Issuer: issuer.pem, Root: issuer.root, Chain: issuer.chain };
    await this.certificate(`CA ${id}`, pem, above);
    const { scratch } = this.scene;
    const chain = scratch.write(
      `${id}.chain.pem`,
      [pem, issuer?.chain].map((path) => (path ? readFileSync(path) : "")).join(""),
    );
    return { id, pem, root: issuer?.root ?? pem, chain };
  }

  async leaf(issued: Issued): Promise<void> {
    const { leaf, issuer, root, chain } = issued;
    await this.certificate(`leaf ${issued.certificateId}`, leaf, { Issuer: issuer, Root: root, Chain: chain });
  }

  private async certificate(name: string, pem: string, above: Pick<Artefact, "Issuer" | "Root" | "Chain">) {
    const { stdout } = await must("openssl", ["x509", "-in", pem, "-outform", "DER"]);
    this.add(name, "certificate", stdout, above);
  }

  /** The list of a CA as soon as it has this many entries; `point` names a partition by its distribution point. */
  async list(ca: Ca, revoked: Readonly<Record<string, string>>, point = ""): Promise<void> {
    const wanted = Object.entries(revoked).map(([serial, reason]) => [plain(serial), REASONS[reason] ?? -1]);
    const path = point === "" ? `/.well-known/pki/crl/${ca.id}` : new URL(point).pathname;
    const bytes = await eventually(async () => {
      const { stdout } = await must("curl", ["-sf", `${this.scene.admin.url}${path}`]);
      const shown = await must("openssl", ["crl", "-inform", "DER", "-noout", "-text"], { input: stdout });
      const entries = shown.text.match(/^ {4}Serial Number:/gm)?.length ?? 0;
      if (entries !== wanted.length) throw new Error(`${path} has ${entries} entries`);
      return stdout;
    });
    const expected = { Issuer: ca.pem, Revoked: Object.fromEntries(wanted), Point: point };
    this.add(`list ${path}`, "crl", bytes, expected);
  }

  /** The answer about a certificate, or about a serial that nobody issued, as soon as it has the status. */
  async answer(ca: Ca, asked: Asked, expected: Answer, at = ca.id): Promise<void> {
    const { scratch, admin } = this.scene;
    const { status, reason = "unspecified", hash = "SHA-1", nonce = false, method = "POST" } = expected;
    const name = ["answer", at, asked.serial, hash, method, status, ...(nonce ? ["nonce"] : [])].join(" ");
    const request = scratch.file(`${name}.request`);
    await must("openssl", [
      ...["ocsp", `-${hash.toLowerCase().replace("-", "")}`, "-issuer", ca.pem],
      ...(asked.leaf === null ? ["-serial", `0x${asked.serial}`] : ["-cert", asked.leaf]),
      ...[nonce ? "-nonce" : "-no_nonce", "-reqout", request],
    ]);
    const address = `${admin.url}/.well-known/pki/ocsp/${at}`;
    const fetched =
      method === "POST"
        ? ["-H", "Content-Type: application/ocsp-request", "--data-binary", `@${request}`, address]
        : [`${address}/${encodeURIComponent(readFileSync(request).toString("base64"))}`];
    const [bytes, shown] = await eventually(async () => {
      const { stdout } = await must("curl", ["-sf", ...fetched]);
      const respin = scratch.write(`${name}.response`, stdout);
      const { text } = await run("openssl", ["ocsp", "-respin", respin, "-noverify", "-resp_text"]);
      if (!text.includes(`Cert Status: ${status}`)) throw new Error(`not ${status}: ${text}`);
      return [stdout, text] as const;
    });
    if (shown.includes("OCSP Nonce") !== nonce) throw new Error(`nonce: ${shown}`);
    this.add(name, "ocsp", bytes, {
      Issuer: ca.pem,
      Certificate: asked.leaf ?? "",
      Serial: plain(asked.serial),
      Status: status,
      Reason: REASONS[reason] ?? -1,
      Hash: hash,
    });
    await this.responder(ca, shown);
  }

  /** The certificate of the responder that openssl printed with an answer. */
  private async responder(ca: Ca, shown: string): Promise<void> {
    const name = `responder ${ca.id}`;
    if (this.artefacts.some((artefact) => artefact.Name === `${this.theme}: ${name}`)) return;
    const text = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/.exec(shown)?.[0];
    if (text === undefined) throw new Error(`no responder certificate: ${shown}`);
    const pem = this.scene.scratch.write(`${name}.pem`, text);
    await this.certificate(name, pem, { Issuer: ca.pem, Root: ca.root, Chain: ca.chain });
  }

  add(name: string, kind: Artefact["Kind"], der: Uint8Array, more: Omit<Artefact, "Name" | "Kind" | "File">) {
    const file = `${this.theme} ${this.artefacts.length}.der`.replaceAll(" ", "-");
    const File = this.scene.scratch.write(file, der);
    this.artefacts.push({ Name: `${this.theme}: ${name}`, Kind: kind, File, ...more });
  }
}
