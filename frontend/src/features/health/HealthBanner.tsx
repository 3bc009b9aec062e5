import { TriangleAlert, X } from 'lucide-react';
import { useState } from 'react';

import type { HealthCheck, Readiness } from '@/api/records';
import { IconButton } from '@/components/Button';

const PLAYBOOK = 'No model key is set: answers come from the built-in playbook, which is not a language model.';
const KEY_REMEDY =
  "Set ANTHROPIC_API_KEY and ANTHROPIC_MODEL (or another provider's, see models.yaml) where the server runs, and start it again.";

function isPlaybookCheck({ name, detail }: HealthCheck): boolean {
  return /model/i.test(name) && /playbook/i.test(detail);
}

/** Whether answers come from the playbook, as far as the server's checks say. */
export function isPlaybook(readiness: Readiness | undefined): boolean {
  return Boolean(readiness?.checks.some(isPlaybookCheck));
}

function headline(checks: HealthCheck[], playbook: boolean, unavailable: boolean): string {
  const missing = checks.find((check) => check.status === 'missing');
  if (missing) return missing.detail || `${missing.name} is missing.`;
  if (unavailable) return 'This server can take no run at the moment.';
  if (playbook) return PLAYBOOK;
  return checks.length === 1 ? (checks[0]?.detail ?? '') : `${checks.length} parts of this server are degraded.`;
}

function Details({ checks, playbook }: { checks: HealthCheck[]; playbook: boolean }) {
  return (
    <dl className="mt-2 max-w-[80ch] space-y-1.5 pb-1">
      {playbook && (
        <div>
          <dt className="font-medium">model</dt>
          <dd>
            {PLAYBOOK} <span className="text-soft">{KEY_REMEDY}</span>
          </dd>
        </div>
      )}
      {checks.map(({ name, detail, remedy }) => (
        <div key={name}>
          <dt className="font-medium">{name}</dt>
          <dd>
            {detail} <span className="text-soft">{remedy}</span>
          </dd>
        </div>
      ))}
    </dl>
  );
}

interface HealthBannerProps {
  readiness: Readiness | undefined;
  playbook: boolean;
}

/** What is not as it should be on this server, in one line that unfolds; nothing when all is well. */
export function HealthBanner({ readiness, playbook }: HealthBannerProps) {
  const [closed, setClosed] = useState(false);
  const checks = (readiness?.checks ?? []).filter((check) => check.status !== 'ok' && !isPlaybookCheck(check));
  const unavailable = readiness?.status === 'unavailable';
  if (closed || (!playbook && !checks.length && !unavailable)) return null;
  return (
    <div role="status" data-testid="banner" className="flex items-start gap-2.5 border-b border-line bg-brass-tint py-2 pr-2 pl-4 text-sm">
      <TriangleAlert size={16} className="mt-0.5 flex-none text-brass" aria-hidden="true" />
      <details className="max-h-[40dvh] min-w-0 flex-1 overflow-y-auto wrap-anywhere">
        <summary className="rounded">
          {headline(checks, playbook, unavailable)}{' '}
          <span className="whitespace-nowrap text-brass underline underline-offset-3">
            {playbook ? 'How to set a key' : 'What to do'}
          </span>
        </summary>
        <Details checks={checks} playbook={playbook} />
      </details>
      <IconButton label="Hide this notice" className="-my-1.5" onClick={() => setClosed(true)}>
        <X size={15} />
      </IconButton>
    </div>
  );
}
