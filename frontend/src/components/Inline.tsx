/** One line in which only `code` is marked up. */
export function Inline({ text }: { text: string }) {
  return text.split('`').map((part, index) =>
    index % 2 ? (
      <code key={index} className="rounded bg-sunk px-1 py-0.5 font-mono text-[0.87em] font-normal">
        {part}
      </code>
    ) : (
      part
    ),
  );
}
