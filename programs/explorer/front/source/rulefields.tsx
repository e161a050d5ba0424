// Threshold and lambda as fields: of the rule that is replayed, and of a branch that is to be decoded.

interface RuleFieldsProps {
  tau: number | null; // null: left open
  lambda: number | null; // null: tau alone decides
  factor: number; // lambda where it is switched on
  rolling: number; // above 1: the mean of so many scores is compared with tau, and there is no lambda beside it
  of: string; // whose, for who does not see the place
  open?: string; // what an open threshold means
  set: (rule: { tau: number | null; lambda: number | null }) => void;
}

export function RuleFields({ tau, lambda, factor, rolling, of, open = "", set }: RuleFieldsProps) {
  return (
    <>
      <label title="Fires where the score is above">
        τ <NumberField label={`Threshold tau${of}`} value={tau} open={open} set={(value) => (value !== null || open) && set({ tau: value, lambda })} />
      </label>
      {rolling > 1 ? (
        <span class="dim">mean of {rolling} scores</span>
      ) : (
        <span class="lambda">
          <label title="and above lambda times the local mean, that of the scores before">
            <input type="checkbox" aria-label={`Lambda${of}`} checked={lambda !== null} onChange={(event) => set({ tau, lambda: event.currentTarget.checked ? factor : null })} /> λ
          </label>{" "}
          <NumberField label={`Factor lambda${of}`} value={lambda} disabled={lambda === null} set={(value) => value !== null && value > 0 && set({ tau, lambda: value })} />
        </span>
      )}
    </>
  );
}

interface NumberFieldProps {
  label: string;
  value: number | null;
  open?: string; // what an empty field means
  disabled?: boolean;
  set: (value: number | null) => void; // null: it was emptied
}

export function NumberField({ label, value, open = "", disabled = false, set }: NumberFieldProps) {
  return (
    <input
      type="number"
      aria-label={label}
      step="any"
      min="0"
      placeholder={open}
      disabled={disabled}
      value={value === null ? "" : String(Number(value.toPrecision(6)))}
      onChange={(event) => {
        const { value: text, valueAsNumber: written } = event.currentTarget;
        if (text === "" || Number.isFinite(written)) set(text === "" ? null : written);
      }}
    />
  );
}
