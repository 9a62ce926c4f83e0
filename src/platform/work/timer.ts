/** A cancellable pause. After `cancel`, `passed` never resolves. */
export function after(ms: number): { passed: Promise<void>; cancel: () => void } {
  const { promise: passed, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  return { passed, cancel: () => clearTimeout(timer) };
}
