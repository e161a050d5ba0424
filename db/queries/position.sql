-- Where in a solution do the tokens of largest disagreement lie?
-- Definitions: u = position / n_tokens of the sample, from 0 to just under 1; bin b holds b / bins <= u < (b + 1) /
--   bins.
--   density_all, density_top: share of the tokens (of the top-p set) in the bin, times bins; 1 is uniform.
--   The top-p set of a run is every token with metric >= Q(1 - p), Q the linearly interpolated quantile less a
--   relative 1e-12 over the run;
--   ties at the threshold are all in. Tokens without the metric are left out.
--   (DuckDB's interpolation between equal values may end one rounding above them; the 1e-12 keeps such ties in.)
-- Paper: density of normalised position of the top-1 % tokens against all tokens (diagnosis, position).
-- Parameters: $runs run ids; $metric column of tokens; $p share of tokens; $bins number of bins
WITH scored AS (
    SELECT run_id, sample_id, position, COLUMNS(lambda name: name = $metric) AS value
    FROM tokens
    WHERE run_id IN (SELECT unnest($runs))
),
thresholds AS (
    SELECT
        run_id,
        quantile_cont(value, 1 - $p) * (1 - 1e-12 * sign(quantile_cont(value, 1 - $p))) AS threshold
    FROM scored
    GROUP BY run_id
),
binned AS (
    SELECT
        run_id,
        (scored.position::BIGINT * $bins) // samples.n_tokens AS bin,
        count(*) AS n_all,
        count(*) FILTER (value >= threshold) AS n_top
    FROM scored
    JOIN thresholds USING (run_id)
    JOIN samples USING (run_id, sample_id)
    WHERE value IS NOT NULL
    GROUP BY ALL
),
grid AS (
    SELECT run_id, bin FROM (SELECT DISTINCT run_id FROM binned) CROSS JOIN (SELECT unnest(range($bins)) AS bin)
),
filled AS (
    SELECT run_id, bin, COALESCE(n_all, 0) AS n_all, COALESCE(n_top, 0) AS n_top
    FROM grid
    LEFT JOIN binned USING (run_id, bin)
)
SELECT
    run_id,
    bin / $bins AS u_low,
    (bin + 1) / $bins AS u_high,
    n_all,
    n_top,
    $bins * n_all / sum(n_all) OVER (PARTITION BY run_id) AS density_all,
    $bins * n_top / sum(n_top) OVER (PARTITION BY run_id) AS density_top
FROM filled
ORDER BY list_position($runs, run_id), bin
