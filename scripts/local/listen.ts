import net from "node:net";
import { type LocalSettings, StartError } from "./settings.ts";

export interface Listen {
  readonly host: string;
  readonly port: number;
}

/**
 * The sockets to listen on, all on one port that was just free on each address. An optional address that this machine
 * does not have is left out. Throws StartError naming the address and port that are taken.
 */
export async function chooseSockets(settings: Pick<LocalSettings, "hosts" | "port">): Promise<Listen[]> {
  for (let attempt = 0; ; attempt++) {
    const sockets: Listen[] = [];
    let port = settings.port;
    let taken: StartError | null = null;
    for (const { address, optional } of settings.hosts) {
      try {
        port = await tryListen(address, port);
        sockets.push({ host: address, port });
      } catch (error) {
        const code = error instanceof Error && "code" in error ? error.code : undefined;
        if (optional && (code === "EADDRNOTAVAIL" || code === "EAFNOSUPPORT" || code === "EINVAL")) continue;
        taken = explain(address, port, code, error);
        break;
      }
    }
    if (!taken) return sockets;
    // A port that is free on one address may be taken on the next: try another.
    if (settings.port !== 0 || attempt >= 20) throw taken;
  }
}

/** A port that was just free on `address`. */
function tryListen(address: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once("error", reject);
    server.listen({ host: address, port, exclusive: true, ipv6Only: address.includes(":") }, () => {
      const bound = server.address();
      server.close(() => resolve(typeof bound === "object" && bound !== null ? bound.port : port));
    });
  });
}

function explain(address: string, port: number, code: unknown, cause: unknown): StartError {
  if (code === "EADDRINUSE") {
    return new StartError(
      `port ${port} on ${address} is taken by another program; stop it, or set PORT to another (0: any free one)`,
    );
  }
  if (code === "EACCES") return new StartError(`this user may not listen on port ${port}; set PORT to 1024 or more`);
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND")
    return new StartError(`HOST ${address} is no address of this machine`);
  return new StartError(
    `cannot listen on ${address} port ${port}: ${cause instanceof Error ? cause.message : String(cause)}`,
  );
}

/** The base URL at which a browser on this machine reaches one of the sockets. */
export function urlOf(sockets: readonly Listen[]): string {
  const first = sockets[0];
  if (!first) throw new StartError("HOST names no address");
  const local = ["127.0.0.1", "::1", "0.0.0.0", "::"].includes(first.host);
  const host = local ? "localhost" : first.host.includes(":") ? `[${first.host}]` : first.host;
  return `http://${host}:${first.port}`;
}
