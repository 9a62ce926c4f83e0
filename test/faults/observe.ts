import { expect } from "vitest";
import { parseCrl } from "../../src/pki/crl.ts";
import { parseOcspResponse } from "../../src/pki/ocsp.ts";
import type { Fleet, Json } from "../support/client.ts";

/** What the fault suites look at from outside. */

/** Small and repeatable: the same seed kills at the same moments (as far as the machine allows). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Keys live on, the port may have changed. */
export function at(fleet: Fleet, url: string): Fleet {
  return { ...fleet, admin: fleet.admin.at(url), agent: fleet.agent.at(url) };
}

export async function crl(fleet: Fleet): Promise<{ number: bigint; serials: Set<string> }> {
  const parsed = parseCrl(await fetchBytes(fleet, `/.well-known/pki/crl/${fleet.issuerId}`));
  return { number: parsed.number ?? -1n, serials: new Set(parsed.entries.map((entry) => entry.serial)) };
}

export function missingFrom(list: { serials: Set<string> }, wanted: Set<string>): string[] {
  return [...wanted].filter((serial) => !list.serials.has(serial));
}

export async function versionOf(fleet: Fleet, certificateId: string, jobId: string): Promise<Json | undefined> {
  return (await versionsOf(fleet, certificateId)).find((version) => version.job_id === jobId);
}

export async function versionsOf(fleet: Fleet, certificateId: string): Promise<Json[]> {
  const { data } = (await fleet.admin.call("GET", `/api/v1/certificates/${certificateId}/versions`)) as {
    data: Json[];
  };
  return data;
}

export async function statusOf(fleet: Fleet, serial: string): Promise<string> {
  const response = parseOcspResponse(await fetchBytes(fleet, `/.well-known/pki/ocsp/${fleet.issuerId}/${serial}`));
  return response.basic?.responses[0]?.status.type ?? response.status;
}

export async function fetchBytes(fleet: Fleet, path: string): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetch(fleet.admin.url + path);
  expect(response.status, path).toBe(200);
  return new Uint8Array(await response.arrayBuffer());
}
