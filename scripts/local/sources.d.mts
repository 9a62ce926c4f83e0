export function buildHome(project: string): string;
export function filesUnder(directory: string): string[];
