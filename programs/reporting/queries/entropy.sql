-- How much of a run's cross-entropy is the base model's own entropy?
-- Definitions: over the tokens that have ce and entropy_base. of_mass: sum of entropy_base over sum of ce, NULL where that is 0.
--   little_of_top: of the tokens with ce >= Q(1 - p) that have a reverse KL, the share in which it is below $little nats.
-- Parameters: $run run id; $p share of tokens; $little nats
WITH scored AS NOT MATERIALIZED (
    SELECT ce, entropy_base, reverse_kl FROM tokens WHERE run_id = $run AND ce IS NOT NULL AND entropy_base IS NOT NULL
),
cut AS (
    SELECT quantile_cont(ce, 1 - $p) * (1 - 1e-12) AS threshold FROM scored
)
SELECT
    sum(entropy_base) / NULLIF(sum(ce), 0) AS of_mass,
    count_if(reverse_kl < $little AND ce >= threshold)
    / NULLIF(count(reverse_kl) FILTER (ce >= threshold), 0) AS little_of_top
FROM scored
CROSS JOIN cut
