/** Three slots of a paper roll, the middle one sounding. */
export function Logo({ className = 'size-6' }: { className?: string }) {
  return (
    <svg viewBox="0 0 20 20" className={className} aria-hidden="true">
      <rect x="2" y="2" width="4" height="16" rx="2" className="fill-accent" />
      <rect x="8" y="2" width="4" height="6" rx="2" className="fill-brass-fill" />
      <rect x="8" y="11" width="4" height="7" rx="2" className="fill-accent" />
      <rect x="14" y="6" width="4" height="12" rx="2" className="fill-accent" />
    </svg>
  );
}
