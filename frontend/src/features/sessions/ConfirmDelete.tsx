import * as Alert from '@radix-ui/react-alert-dialog';

import type { Session } from '@/api/records';
import { Button } from '@/components/Button';

interface ConfirmDeleteProps {
  session: Session | null;
  onCancel: () => void;
  onConfirm: (session: Session) => void;
}

export function ConfirmDelete({ session, onCancel, onConfirm }: ConfirmDeleteProps) {
  return (
    <Alert.Root open={session !== null} onOpenChange={(open) => !open && onCancel()}>
      <Alert.Portal>
        <Alert.Overlay className="fade-in fixed inset-0 z-60 bg-black/40" />
        <Alert.Content className="fade-in fixed top-1/2 left-1/2 z-70 w-[min(26rem,92vw)] -translate-x-1/2 -translate-y-1/2 rounded-2xl border border-line bg-card p-6">
          <Alert.Title className="font-serif text-xl font-medium">Delete this session?</Alert.Title>
          <Alert.Description className="mt-2 text-sm text-soft">
            “{session?.title || 'Untitled'}” goes away for good, with its conversation and every file of its workspace.
          </Alert.Description>
          <div className="mt-6 flex justify-end gap-2">
            <Alert.Cancel asChild>
              <Button>Keep it</Button>
            </Alert.Cancel>
            <Alert.Action asChild>
              <Button look="danger" onClick={() => session && onConfirm(session)}>
                Delete
              </Button>
            </Alert.Action>
          </div>
        </Alert.Content>
      </Alert.Portal>
    </Alert.Root>
  );
}
