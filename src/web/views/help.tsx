import { Modal } from './parts.tsx'

const keys: readonly (readonly [string, string])[] = [
  ['Ctrl K', 'find a conversation, person or room'],
  ['Alt Shift ↑ / ↓', 'previous or next conversation with unread messages'],
  ['↑', 'in the empty message box: edit your last message'],
  ['Enter', 'send; Shift Enter makes a new line'],
  ['Shift Esc', 'mark everything as read'],
  ['Esc', 'close, or stop editing'],
  ['Ctrl /', 'this page'],
]

export function HelpDialog(props: { readonly open: boolean; readonly onClose: () => void }) {
  return (
    <Modal title="Keys" open={props.open} onClose={props.onClose}>
      <table>
        <tbody>
          {keys.map(([key, what]) => (
            <tr key={key}>
              <td>
                <kbd>{key}</kbd>
              </td>
              <td>{what}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p className="muted small">On a Mac, Cmd does what Ctrl does here.</p>
    </Modal>
  )
}
