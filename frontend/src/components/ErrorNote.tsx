import { CircleAlert, X } from 'lucide-react';

import { ApiError } from '@/api/client';

import { IconButton } from './Button';

/** What went wrong, and what to do about it. */
export function ErrorNote({ error, onClose }: { error: Error; onClose?: () => void }) {
  const remedy = error instanceof ApiError ? error.remedy : '';
  return (
    <div role="alert" className="fade-in flex items-start gap-2.5 rounded-xl bg-bad-tint px-3.5 py-2.5 text-sm">
      <CircleAlert size={17} className="mt-0.5 flex-none text-bad" aria-hidden="true" />
      <p className="min-w-0 flex-1 wrap-anywhere">
        {error.message} {remedy && <span className="text-soft">{remedy}</span>}
      </p>
      {onClose && (
        <IconButton label="Dismiss" className="-my-1.5 -mr-2" onClick={onClose}>
          <X size={15} />
        </IconButton>
      )}
    </div>
  );
}
