import { TriangleAlert } from 'lucide-react';

import type { HealthCheck, Readiness } from '@/api/records';

/** Whether answers come from the playbook, as far as the server's checks say. */
export function isPlaybook(readiness: Readiness | undefined): boolean {
  return Boolean(readiness?.checks.some(({ name, detail }) => /model/i.test(name) && /playbook/i.test(detail)));
}

function Playbook() {
  return (
    <details className="group">
      <summary className="rounded">
        No model key is set: answers come from the built-in playbook, which is not a language model.{' '}
        <span className="text-brass underline underline-offset-3">How to set a key</span>
      </summary>
      <p className="mt-1.5 max-w-[75ch] text-soft">
        Set <code>ANTHROPIC_API_KEY</code> and <code>ANTHROPIC_MODEL</code> in the server's environment, or name another
        provider in <code>models.yaml</code>, then start the server again. <code>orchestrion doctor</code> says what it
        found.
      </p>
    </details>
  );
}

function Degraded({ check }: { check: HealthCheck }) {
  return (
    <p>
      {check.detail || `${check.name} is degraded.`} <span className="text-soft">{check.remedy}</span>
    </p>
  );
}

interface HealthBannerProps {
  readiness: Readiness | undefined;
  playbook: boolean;
}

/** What is not as it should be on this server; nothing when all is well. */
export function HealthBanner({ readiness, playbook }: HealthBannerProps) {
  const degraded = (readiness?.checks ?? []).filter(
    ({ status, name, detail }) => status !== 'ok' && status !== 'ready' && !isPlaybookCheck(name, detail),
  );
  if (!playbook && !degraded.length) return null;
  return (
    <div role="status" data-testid="banner" className="flex gap-2.5 border-b border-line bg-brass-tint px-4 py-2 text-sm">
      <TriangleAlert size={16} className="mt-0.5 flex-none text-brass" aria-hidden="true" />
      <div className="min-w-0 space-y-1 wrap-anywhere">
        {playbook && <Playbook />}
        {degraded.map((check) => (
          <Degraded key={check.name} check={check} />
        ))}
      </div>
    </div>
  );
}

function isPlaybookCheck(name: string, detail: string): boolean {
  return /model/i.test(name) && /playbook/i.test(detail);
}
