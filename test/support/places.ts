import { expect } from "vitest";
import { actorWith, type InScope, ofIssuer, ofProfile } from "./actors.ts";
import type { Answer, Client } from "./api.ts";
import { makeCsr } from "./csr.ts";
import { type Fleet, makeFleet } from "./fleet.ts";

/** Where certificates are. */
export interface Place {
  readonly profile: string;
  readonly issuer: string;
}

/** What has a place. */
export type Kind = "certificate" | "job" | "profile" | "issuer" | "ca";

/** A fresh object with the scopes by which it is reached. */
export interface Fresh {
  readonly id: string;
  readonly scopes: readonly InScope[];
}

/** The administrator's role in a scope: every permission there is, there alone. */
export const adminOf = (scope: InScope): Promise<Client> => actorWith([{ role_id: "r-admin", ...scope }]);

export const told = ({ status, body }: Answer) => ({ status, error: body.error, message: body.message });

export const CERTIFICATES = "/api/v1/certificates";

/** Two profiles and two issuers: `mine` is what a scoped actor is for, `other` is what it must not reach. */
export class Places {
  readonly fleet: Fleet;
  readonly mine: Place;
  readonly other: Place;
  #n = 0;

  private constructor(fleet: Fleet, mine: Place, other: Place) {
    this.fleet = fleet;
    this.mine = mine;
    this.other = other;
  }

  static async make(): Promise<Places> {
    const fleet = await makeFleet();
    const empty = new Places(fleet, { profile: "", issuer: "" }, { profile: "", issuer: "" });
    const mine = { profile: await empty.profile("mine"), issuer: fleet.issuerId };
    const other = { profile: await empty.profile("other"), issuer: await empty.issuer("other") };
    return new Places(fleet, mine, other);
  }

  get admin(): Client {
    return this.fleet.admin;
  }

  /** A number that nobody had. */
  next(): number {
    return ++this.#n;
  }

  async profile(name: string, more: Record<string, unknown> = {}): Promise<string> {
    return String((await this.admin.create("/api/v1/profiles", { name: `${name} ${this.next()}`, ...more })).id);
  }

  async issuer(name: string): Promise<string> {
    const unique = `${name} ${this.next()}`;
    const config = { ca_common_name: unique };
    return String((await this.admin.create("/api/v1/issuers", { name: unique, type: "GenericCA", config })).id);
  }

  async ca(issuer: string): Promise<string> {
    const path = `/api/v1/issuers/${issuer}/intermediates`;
    return String((await this.admin.create(path, { name: `below ${this.next()}` })).id);
  }

  /** What creates a certificate there. */
  body(place: Partial<Place>, more: Record<string, unknown> = {}): Record<string, unknown> {
    const n = this.next();
    return {
      ...this.fleet.record,
      name: `scoped ${n}`,
      common_name: `s${n}.example.com`,
      issuer_id: place.issuer ?? this.mine.issuer,
      certificate_profile_id: place.profile ?? null,
      target_ids: [this.fleet.targetId],
      ...more,
    };
  }

  async record(place: Partial<Place>): Promise<string> {
    return String((await this.admin.create(CERTIFICATES, this.body(place))).id);
  }

  /** A certificate with one version. */
  async issued(place: Partial<Place>): Promise<string> {
    const id = await this.record(place);
    const { job_id } = (await this.admin.post(`${CERTIFICATES}/${id}/renew`)).body;
    await this.sign(job_id);
    return id;
  }

  /** The agent answers a job. */
  async sign(job_id: unknown): Promise<void> {
    const csr = { csr_pem: await makeCsr(), job_id };
    const signed = await this.fleet.agent.post(`/api/v1/agents/${this.fleet.agentId}/csr`, csr);
    expect(signed.status, JSON.stringify(signed.body)).toBe(202);
  }

  async jobOf(certificate: string): Promise<string> {
    const list = await this.admin.get<{ data: { id: string }[] }>(`/api/v1/jobs?certificate_id=${certificate}`);
    return String(list.body.data[0]?.id);
  }

  /** One of the kind at the other place. */
  async foreign(kind: Kind): Promise<string> {
    if (kind === "profile" || kind === "issuer") return this.other[kind];
    if (kind === "ca") return this.ca(this.other.issuer);
    const certificate = await this.issued(this.other);
    return kind === "job" ? this.jobOf(certificate) : certificate;
  }

  /** A fresh one that scopes reach. */
  async fresh(kind: Kind): Promise<Fresh> {
    const both = [ofProfile(this.mine.profile), ofIssuer(this.mine.issuer)];
    switch (kind) {
      case "certificate":
        return { id: await this.issued(this.mine), scopes: both };
      case "job":
        return { id: await this.jobOf(await this.issued(this.mine)), scopes: both };
      case "profile": {
        const id = await this.profile("fresh");
        return { id, scopes: [ofProfile(id)] };
      }
      case "issuer": {
        const id = await this.issuer("fresh");
        return { id, scopes: [ofIssuer(id)] };
      }
      case "ca": {
        const issuer = await this.issuer("fresh");
        return { id: await this.ca(issuer), scopes: [ofIssuer(issuer)] };
      }
    }
  }
}
