/** Numbers as people read them. */

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

export function formatSize(bytes: number): string {
  const power = bytes < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return `${value.toLocaleString('en', { maximumFractionDigits: power && value < 10 ? 1 : 0 })} ${UNITS[power]}`;
}

export function formatSeconds(seconds: number): string {
  if (seconds < 0.1) return '<0.1 s';
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

export function formatCount(count: number): string {
  if (count < 10_000) return count.toLocaleString('en');
  return new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 }).format(count);
}

export function formatUsd(usd: number): string {
  if (usd > 0 && usd < 0.01) return '<$0.01';
  return `$${usd.toFixed(2)}`;
}

export function fileName(path: string): string {
  return path.split('/').at(-1) ?? path;
}

/** `Sat 14:03`-like for this week, a date for what is older. */
export function formatWhen(iso: string, now: Date = new Date()): string {
  const then = new Date(iso);
  const days = (now.getTime() - then.getTime()) / 86_400_000;
  if (days < 1 && then.getDate() === now.getDate())
    return then.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  if (days < 6) return then.toLocaleDateString([], { weekday: 'long' });
  return then.toLocaleDateString([], { day: 'numeric', month: 'short', year: 'numeric' });
}
