-- Where in a solution do the tokens of largest disagreement lie?
-- Definitions: u = (position + 1/2) / n_tokens of the sample. Each row is about the tokens with
--   u_low <= u < u_high. n_all, n_top: tokens (tokens of the top-p set) there; n_first: samples whose first token of the
--   top-p set is there. share_all, share_top, share_first: those over their totals in the run. density_all, density_top: the
--   shares over u_high - u_low; 1 is uniform.
--   part density: $bins bins of equal width. part peak: the bin with the largest density_top, the first of equal ones;
--   middle is its middle. part within: 0 <= u < x. part beyond: x <= u, the survival of the top-p set at x.
--   The top-p set of a run is every token with metric >= Q(1 - p), Q the linearly interpolated quantile less a
--   relative 1e-12 over the run; ties at the threshold are all in. Tokens without the metric are left out.
--   (DuckDB's interpolation between equal values may end one rounding above them; the 1e-12 keeps such ties in.)
-- Paper: density of normalised position of the top-1 % tokens against all tokens, its peak near u = 0.05 (diagnosis,
--   position).
-- Parameters: $runs run ids; $metric column of tokens; $p share of tokens; $bins number of bins; $edges values of x
WITH scored AS NOT MATERIALIZED (
    -- NOT MATERIALIZED: a second scan of a few columns costs less than keeping every row.
    SELECT run_id, sample_id, position, COLUMNS(lambda name: name = $metric) AS value
    FROM tokens
    WHERE run_id IN (SELECT unnest($runs))
),
grouped AS (
    SELECT *, 'run' AS within, run_id AS unit FROM scored
    UNION ALL
    SELECT *, 'sample', sample_id FROM scored
),
thresholds AS (
    SELECT
        run_id,
        within,
        unit,
        quantile_cont(value, 1 - $p) * (1 - 1e-12 * sign(quantile_cont(value, 1 - $p))) AS threshold
    FROM grouped
    GROUP BY run_id, within, unit
),
lengths AS (
    SELECT run_id, sample_id, n_tokens FROM samples WHERE run_id IN (SELECT unnest($runs))
),
cells AS (
    SELECT run_id, within, bin, segment, sum(n_all) AS n_all, sum(n_top) AS n_top, sum(n_first) AS n_first
    FROM (
        SELECT
            run_id,
            within,
            ((2 * position::BIGINT + 1) * $bins) // (2 * n_tokens) AS bin,
            len(list_filter($edges, lambda x: (position + 0.5) / n_tokens >= x)) AS segment,
            count(*) AS n_all,
            count(*) FILTER (value >= threshold) AS n_top,
            0 AS n_first
        FROM grouped
        JOIN thresholds USING (run_id, within, unit)
        JOIN lengths USING (run_id, sample_id)
        WHERE value IS NOT NULL
        GROUP BY ALL
        UNION ALL
        SELECT
            run_id,
            within,
            ((2 * first_top::BIGINT + 1) * $bins) // (2 * n_tokens),
            len(list_filter($edges, lambda x: (first_top + 0.5) / n_tokens >= x)),
            0,
            0,
            count(*)
        FROM (
            SELECT run_id, within, sample_id, min(position) AS first_top
            FROM grouped
            JOIN thresholds USING (run_id, within, unit)
            WHERE value >= threshold
            GROUP BY run_id, within, sample_id
        )
        JOIN lengths USING (run_id, sample_id)
        GROUP BY ALL
    )
    GROUP BY run_id, within, bin, segment
),
totals AS (
    SELECT run_id, within, sum(n_all) AS all_all, sum(n_top) AS all_top, sum(n_first) AS all_first
    FROM cells
    GROUP BY run_id, within
),
slots AS (
    SELECT 1 AS place, 'density' AS part, unnest(range($bins)) AS slot
    UNION ALL
    SELECT unnest([3, 4]), unnest(['within', 'beyond']), slot FROM (SELECT unnest(range(1, len($edges) + 1)) AS slot)
),
intervals AS (
    SELECT
        place,
        part,
        slot,
        CASE part WHEN 'density' THEN slot / $bins WHEN 'within' THEN 0 ELSE $edges[slot] END AS u_low,
        CASE part WHEN 'density' THEN (slot + 1) / $bins WHEN 'within' THEN $edges[slot] ELSE 1 END AS u_high
    FROM slots
),
counted AS (
    SELECT
        totals.run_id,
        totals.within,
        intervals.place,
        intervals.part,
        intervals.u_low,
        intervals.u_high,
        COALESCE(sum(n_all), 0) AS n_all,
        COALESCE(sum(n_top), 0) AS n_top,
        COALESCE(sum(n_first), 0) AS n_first
    FROM totals
    CROSS JOIN intervals
    LEFT JOIN cells
        ON cells.run_id = totals.run_id
        AND cells.within = totals.within
        AND CASE part WHEN 'density' THEN bin = slot WHEN 'within' THEN segment < slot ELSE segment >= slot END
    GROUP BY ALL
),
rows AS (
    FROM counted
    UNION ALL
    SELECT * REPLACE (2 AS place, 'peak' AS part)
    FROM counted
    WHERE part = 'density'
    QUALIFY row_number() OVER (PARTITION BY run_id, within ORDER BY n_top / NULLIF(n_all, 0) DESC NULLS LAST, u_low) = 1
)
SELECT
    run_id,
    part,
    within,
    u_low::DOUBLE AS u_low,
    u_high::DOUBLE AS u_high,
    ((u_low + u_high) / 2)::DOUBLE AS middle,
    n_all::BIGINT AS n_all,
    n_top::BIGINT AS n_top,
    n_first::BIGINT AS n_first,
    CASE WHEN part IN ('density', 'peak') THEN n_all / all_all / (u_high - u_low) END::DOUBLE AS density_all,
    CASE WHEN part IN ('density', 'peak') THEN n_top / all_top / (u_high - u_low) END::DOUBLE AS density_top,
    (n_top / all_top / NULLIF(n_all / all_all, 0))::DOUBLE AS density_ratio,
    CASE WHEN part IN ('within', 'beyond') THEN n_all / all_all END::DOUBLE AS share_all,
    CASE WHEN part IN ('within', 'beyond') THEN n_top / all_top END::DOUBLE AS share_top,
    CASE WHEN part IN ('within', 'beyond') THEN n_first / all_first END::DOUBLE AS share_first
FROM rows
JOIN totals USING (run_id, within)
ORDER BY list_position($runs, run_id), within, place, CASE WHEN part = 'beyond' THEN u_low ELSE u_high END
