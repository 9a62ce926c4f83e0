import { type Answer, administrator, type Client } from "./api.ts";

/** What the suites of keys, roles and grants stand on. */

export const KEYS = "/api/v1/auth/keys";

export interface CreatedKey {
  readonly id: string;
  readonly actor_id: string;
  readonly key_value: string;
}

interface ListedActor {
  readonly actor_id: string;
  readonly actor_type: string;
  readonly role_ids: string[];
  readonly roles: Record<string, string | null>[];
  readonly keys: Record<string, unknown>[];
}

/** Status and code of an answer. */
export const told = ({ status, body }: Answer) => [status, body.error];

/** An administrator, two profiles and an issuer: what scopes name. */
export class Keys {
  readonly admin: Client;
  readonly profile: string;
  readonly otherProfile: string;
  readonly issuer: string;
  #n = 0;

  private constructor(admin: Client, profile: string, otherProfile: string, issuer: string) {
    this.admin = admin;
    this.profile = profile;
    this.otherProfile = otherProfile;
    this.issuer = issuer;
  }

  static async make(): Promise<Keys> {
    const admin = await administrator();
    const profile = await admin.create("/api/v1/profiles", { name: "web" });
    const other = await admin.create("/api/v1/profiles", { name: "mail" });
    const config = { ca_common_name: "Keys Root" };
    const issuer = await admin.create("/api/v1/issuers", { name: "keys", type: "GenericCA", config });
    return new Keys(admin, String(profile.id), String(other.id), String(issuer.id));
  }

  name(): string {
    return `key-${++this.#n}`;
  }

  /** A key with the viewer's role, unless `body` says otherwise. */
  create<T extends CreatedKey>(body: Record<string, unknown> = {}, by = this.admin): Promise<T> {
    return by.create<T>(KEYS, { name: this.name(), roles: [{ role_id: "r-viewer" }], ...body });
  }

  async listed(actor_id: string): Promise<ListedActor | undefined> {
    const { body } = await this.admin.get<{ keys: ListedActor[] }>(KEYS);
    return body.keys.find((one) => one.actor_id === actor_id);
  }
}
