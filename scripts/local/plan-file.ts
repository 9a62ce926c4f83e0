import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { deserialize, serialize } from "node:v8";
import type { Plan } from "./workerd.ts";

const CIPHER = "aes-256-gcm";
const IV_BYTES = 12;
const TAG_BYTES = 16;

/**
 * A key derived from all inputs of a plan, so that a plan made from other inputs does not decrypt. The inputs include
 * the sealing key, 32 random bytes, so that the file reveals no secret that is set only in the environment.
 */
export function planKey(madeFrom: unknown): Buffer {
  return Buffer.from(hkdfSync("sha256", JSON.stringify(madeFrom), "", "certctl-edge plan 1", 32));
}

/** The plan of an earlier start; null if there is none made from the same inputs. */
export function readPlan(file: string, key: Buffer): Plan | null {
  try {
    const bytes = readFileSync(file);
    const decipher = createDecipheriv(CIPHER, key, bytes.subarray(0, IV_BYTES));
    decipher.setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
    return deserialize(Buffer.concat([decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES)), decipher.final()]));
  } catch {
    return null;
  }
}

/** Writes a plan for the next start. A failure is only logged: the next start is just slower. */
export function writePlan(file: string, key: Buffer, plan: Plan, note: (message: string) => void): void {
  try {
    const iv = randomBytes(IV_BYTES);
    const cipher = createCipheriv(CIPHER, key, iv);
    const sealed = Buffer.concat([cipher.update(serialize(plan)), cipher.final()]);
    writeFileSync(`${file}.new`, Buffer.concat([iv, cipher.getAuthTag(), sealed]), { mode: 0o600 });
    renameSync(`${file}.new`, file);
  } catch (error) {
    rmSync(`${file}.new`, { force: true });
    note(`cannot write ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
