import { formatCount, formatSeconds, formatUsd } from '@/lib/format';
import { durationOf, type RunView } from '@/lib/run/view';

function facts(view: RunView): string[] {
  const seconds = durationOf(view);
  const parts: string[] = [];
  if (view.playbook) parts.push('playbook, not a language model');
  else if (view.model) parts.push(view.model);
  if (seconds !== null) parts.push(formatSeconds(seconds));
  if (view.usage) {
    const tokens = view.usage.input_tokens + view.usage.output_tokens;
    if (tokens) parts.push(`${formatCount(tokens)} tokens`);
    if (view.usage.usd !== null && !view.playbook) parts.push(formatUsd(view.usage.usd));
  }
  return parts;
}

/** What the run took. */
export function RunFooter({ view }: { view: RunView }) {
  const usage = view.usage;
  const title = usage
    ? `${usage.input_tokens} tokens in, ${usage.output_tokens} out, ${usage.cache_read_tokens} read from cache`
    : undefined;
  return (
    <p data-testid="usage" title={title} className="min-h-5 text-xs text-soft tabular-nums">
      {facts(view).join(' · ')}
    </p>
  );
}
