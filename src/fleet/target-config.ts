import { z } from "@hono/zod-openapi";
import { invalid } from "../platform/errors.ts";
import { lineSchema } from "../platform/rows.ts";

/** The fields that a target type's configuration may have, and which of them are secrets or commands. */
interface TargetType {
  readonly config: z.ZodObject;
  /** Dotted paths of credentials: sealed at rest, shown as `********`. */
  readonly secrets: readonly string[];
  /** Fields that an agent executes, never through a shell. */
  readonly commands: readonly string[];
}

const text = lineSchema.max(4096);
const secret = z.string().max(65_536);
const port = z.number().int().min(1).max(65_535);
/** Octal text such as "0640", or the same as a number. */
const mode = z.union([z.string().regex(/^0?[0-7]{3,4}$/, 'must be an octal mode such as "0640"'), z.number().int()]);
const seconds = z.union([z.number().min(0), text]);
const labels = z.record(lineSchema.max(256), lineSchema.max(1024));

const verification = {
  post_deploy_verify: z.strictObject({ enabled: z.boolean(), endpoint: text, timeout: seconds }).partial().optional(),
  post_deploy_verify_attempts: z.number().int().min(0).max(100),
  post_deploy_verify_backoff: seconds,
  post_deploy_verify_max_backoff: seconds,
  host: text,
  hostname: text,
  port,
};

const files = (...names: string[]): z.ZodRawShape =>
  Object.fromEntries(
    names.flatMap((name) => [
      [`${name}_path`, text],
      [`${name}_file_mode`, mode],
      [`${name}_file_owner`, text],
      [`${name}_file_group`, text],
    ]),
  );

const commands = {
  reload_command: text,
  validate_command: text,
  restart_command: text,
  backup_retention: z.number().int(),
};
const webServer = { ...files("cert", "chain", "key"), ...commands, ...verification };
const winrm = {
  mode: z.enum(["local", "winrm"]),
  winrm: z
    .strictObject({
      winrm_host: text,
      winrm_port: port,
      winrm_username: text,
      winrm_password: secret,
      winrm_https: z.boolean(),
      winrm_insecure: z.boolean(),
      winrm_timeout: seconds,
    })
    .partial(),
};
const directory = {
  cert_dir: text,
  cert_file: text,
  key_file: text,
  cert_filename: text,
  key_filename: text,
  chain_filename: text,
  cert_file_mode: mode,
  key_file_mode: mode,
  cert_file_owner: text,
  cert_file_group: text,
  key_file_owner: text,
  key_file_group: text,
  backup_retention: z.number().int(),
};

function type(
  shape: z.ZodRawShape,
  { secrets = [], run = [] }: { secrets?: readonly string[]; run?: readonly string[] } = {},
): TargetType {
  return { config: z.strictObject(shape).partial(), secrets, commands: run };
}

const RUN = ["reload_command", "validate_command", "restart_command"];

export const TARGET_TYPES = {
  NGINX: type(webServer, { run: RUN }),
  Apache: type(webServer, { run: RUN }),
  HAProxy: type({ ...files("pem"), ...commands, ...verification }, { run: RUN }),
  Traefik: type({ ...directory, ...verification }),
  Caddy: type(
    { ...directory, ...verification, mode: z.enum(["api", "file"]), admin_api: text, admin_auth_header: secret },
    { secrets: ["admin_auth_header"] },
  ),
  Envoy: type({ ...directory, ...verification, sds_config: z.boolean() }),
  Postfix: type({ ...webServer, mode: text }, { run: RUN }),
  Dovecot: type({ ...webServer, mode: text }, { run: RUN }),
  IIS: type(
    {
      site_name: text,
      cert_store: text,
      hostname: text,
      binding_info: text,
      port,
      sni: z.boolean(),
      ip_address: text,
      exec_deadline: seconds,
      ...winrm,
    },
    { secrets: ["winrm.winrm_password"] },
  ),
  F5: type(
    {
      host: text,
      port,
      username: text,
      password: secret,
      partition: text,
      ssl_profile: text,
      insecure: z.boolean(),
      timeout: seconds,
    },
    { secrets: ["password"] },
  ),
  SSH: type(
    {
      ...webServer,
      user: text,
      auth_method: z.enum(["key", "password"]),
      private_key_path: text,
      private_key: secret,
      passphrase: secret,
      password: secret,
      host_key: text,
      cert_mode: mode,
      key_mode: mode,
      timeout: seconds,
    },
    { secrets: ["private_key", "passphrase", "password"], run: RUN },
  ),
  WinCertStore: type(
    {
      store_name: text,
      store_location: z.enum(["LocalMachine", "CurrentUser"]),
      friendly_name: text,
      remove_expired: z.boolean(),
      ...winrm,
    },
    { secrets: ["winrm.winrm_password"] },
  ),
  JavaKeystore: type(
    {
      keystore_path: text,
      keystore_password: secret,
      keystore_type: z.enum(["PKCS12", "JKS"]),
      alias: text,
      create_keystore: z.boolean(),
      keytool_path: text,
      backup_dir: text,
      ...commands,
    },
    { secrets: ["keystore_password"], run: RUN },
  ),
  KubernetesSecrets: type(
    { namespace: text, secret_name: text, labels, kubeconfig_path: text, kubeconfig: secret },
    {
      secrets: ["kubeconfig"],
    },
  ),
  AWSACM: type(
    {
      region: text,
      certificate_arn: text,
      tags: labels,
      access_key_id: text,
      secret_access_key: secret,
      session_token: secret,
    },
    { secrets: ["secret_access_key", "session_token"] },
  ),
  AzureKeyVault: type(
    {
      vault_url: text,
      certificate_name: text,
      tags: labels,
      credential_mode: z.enum(["default", "managed_identity", "client_secret", "workload_identity"]),
      tenant_id: text,
      client_id: text,
      client_secret: secret,
    },
    { secrets: ["client_secret"] },
  ),
} satisfies Record<string, TargetType>;

export type TargetTypeName = keyof typeof TARGET_TYPES;
export const TARGET_TYPE_NAMES = Object.keys(TARGET_TYPES) as [TargetTypeName, ...TargetTypeName[]];

/** Shown in place of a stored secret; in a request body it keeps the stored one. */
export const MASK = "********";

type Config = Record<string, unknown>;

/**
 * Checks a configuration against its type and extracts the secrets: `shown` has the mask instead. `********` in the
 * body keeps the `stored` secret of that path; without one it is a 400.
 */
export function readConfig(
  name: TargetTypeName,
  config: Config,
  stored: Readonly<Record<string, string>>,
): { shown: Config; secrets: Record<string, string> } {
  const declared: TargetType = TARGET_TYPES[name];
  checkShape(declared, name, config);
  for (const field of declared.commands) checkCommand(`config.${field}`, config[field]);
  const shown = structuredClone(config);
  const secrets: Record<string, string> = {};
  for (const path of declared.secrets) {
    const value = valueAt(config, path);
    if (typeof value !== "string" || value === "") continue;
    const kept = value === MASK ? stored[path] : value;
    if (kept === undefined) throw invalid(`config.${path}`, `${MASK} keeps a stored value, and none is stored`);
    secrets[path] = kept;
    setAt(shown, path, MASK);
  }
  return { shown, secrets };
}

function checkShape(declared: TargetType, name: string, config: Config): void {
  const result = declared.config.safeParse(config);
  if (result.success) return;
  const [issue] = result.error.issues;
  const path = ["config", ...(issue?.path ?? []).map(String)].join(".");
  if (issue?.code === "unrecognized_keys")
    throw invalid(
      `${path}.${issue.keys[0]}`,
      `is not a field of a ${name} target; it has ${Object.keys(declared.config.shape).sort().join(", ")}`,
    );
  throw invalid(path, (issue?.message ?? "is not valid").replace(/^Invalid input: /, ""));
}

/** Agents split commands at blanks and run them without a shell; syntax that needs a shell is refused here. */
function checkCommand(field: string, command: unknown): void {
  if (typeof command !== "string") return;
  if (command.length > 1024) throw invalid(field, "a command has at most 1024 characters");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  const forbidden = /[;|&$`(){}<>\\"'\u0000-\u001f\u007f]/.exec(command)?.[0];
  if (forbidden !== undefined)
    throw invalid(
      field,
      `${JSON.stringify(forbidden)} is not allowed: commands run without a shell, words split at blanks`,
    );
}

function valueAt(config: Config, path: string): unknown {
  let value: unknown = config;
  for (const key of path.split(".")) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Config)[key];
  }
  return value;
}

function setAt(config: Config, path: string, value: string): void {
  const keys = path.split(".");
  const last = keys.pop() ?? "";
  let at = config;
  for (const key of keys) at = at[key] as Config;
  at[last] = value;
}
