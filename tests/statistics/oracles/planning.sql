-- Are the tokens of large disagreement planning words?
-- Definitions: sets of tokens: all; top_metric and top_entropy: every token with value >= Q(1 - p), Q the linearly
--   interpolated quantile less a relative 1e-12 over the run's tokens that have the value, ties at the threshold all in;
--   within: Q is that of the whole run, or that of the token's sample. takeovers: tokens where the gate fired. n_tokens: tokens of the set; n_matching of them match: they carry a planning tag
--   (part planning), the tag `label` (part category), or are the word `label` (part word: the text of one token without
--   white space around it, in lower case). share = n_matching / n_tokens. enrichment = share / share among all tokens of the
--   run; it cannot exceed 1 / share among all. odds_ratio: odds of a match in the set over those in the rest of the run, NULL
--   where a cell of that table is 0. odds_over_all: odds in the set over those among all tokens of the run, which is what
--   two published shares tell; unlike enrichment neither has a largest value. All of an empty set are NULL.
--   Words: for top_metric, the $words words of the largest keyness that are more frequent in the set than in the run, at
--   least $least times; keyness is Dunning's log-likelihood ratio (2 sum O ln(O / E) over the four cells), in nats.
--   (DuckDB's interpolation between equal values may end one rounding above them; the 1e-12 keeps such ties in.)
-- Paper: share of planning tokens overall, among top-divergence, top-entropy (diagnosis) and takeover tokens.
-- Parameters: $runs run ids; $metric columns of tokens; $p share of tokens; $words number of words; $least occurrences of a
--   word in the set
WITH tagged AS NOT MATERIALIZED (
    -- NOT MATERIALIZED: a second scan of a few columns costs less than keeping every row.
    SELECT run_id, sample_id, planning_tag, token_text, fired, COLUMNS(lambda name: name = $metric) AS value, entropy_base AS entropy
    FROM tokens
    WHERE run_id IN (SELECT unnest($runs))
),
thresholds AS (
    SELECT
        run_id,
        quantile_cont(value, 1 - $p) * (1 - 1e-12 * sign(quantile_cont(value, 1 - $p))) AS value_threshold,
        quantile_cont(entropy, 1 - $p) * (1 - 1e-12 * sign(quantile_cont(entropy, 1 - $p))) AS entropy_threshold
    FROM tagged
    GROUP BY run_id
),
thresholds_of_samples AS (
    SELECT
        run_id,
        sample_id,
        quantile_cont(value, 1 - $p) * (1 - 1e-12 * sign(quantile_cont(value, 1 - $p))) AS own_value_threshold,
        quantile_cont(entropy, 1 - $p) * (1 - 1e-12 * sign(quantile_cont(entropy, 1 - $p))) AS own_entropy_threshold
    FROM tagged
    GROUP BY run_id, sample_id
),
counts AS (
    SELECT
        run_id,
        planning_tag,
        token_text,
        count(*) AS n_all,
        count(value) AS n_valued,
        count(entropy) AS n_uncertain,
        count(*) FILTER (value >= value_threshold) AS n_metric,
        count(*) FILTER (entropy >= entropy_threshold) AS n_entropy,
        count(*) FILTER (value >= own_value_threshold) AS n_own_metric,
        count(*) FILTER (entropy >= own_entropy_threshold) AS n_own_entropy,
        count(*) FILTER (fired) AS n_fired
    FROM tagged
    JOIN thresholds USING (run_id)
    JOIN thresholds_of_samples USING (run_id, sample_id)
    GROUP BY run_id, planning_tag, token_text
),
sizes AS (
    SELECT run_id, sum(COLUMNS('^n_.*'))
    FROM counts
    GROUP BY run_id
),
matches AS (
    SELECT
        run_id,
        planning_tag AS label,
        sum(n_all) AS k_all,
        sum(n_metric) AS k_metric,
        sum(n_entropy) AS k_entropy,
        sum(n_own_metric) AS k_own_metric,
        sum(n_own_entropy) AS k_own_entropy,
        sum(n_fired) AS k_fired
    FROM counts
    WHERE planning_tag IS NOT NULL
    GROUP BY GROUPING SETS ((run_id), (run_id, planning_tag))
),
spelled AS (
    SELECT *, lower(trim(token_text, concat(' ', chr(9), chr(10), chr(13)))) AS word FROM counts
),
words AS (
    SELECT run_id, word AS label, sum(n_all) AS k_all, sum(n_metric) AS k_metric
    FROM spelled
    WHERE word <> ''
    GROUP BY run_id, word
    HAVING sum(n_metric) >= $least
),
rows AS (
    SELECT
        run_id,
        CASE WHEN label IS NULL THEN 'planning' ELSE 'category' END AS part,
        unnest(['all', 'top_metric', 'top_entropy', 'takeovers', 'top_metric', 'top_entropy']) AS tokens,
        unnest([NULL, 'run', 'run', NULL, 'sample', 'sample']) AS within,
        label,
        unnest([n_all, n_metric, n_entropy, n_fired, n_own_metric, n_own_entropy]) AS n_tokens,
        unnest([k_all, k_metric, k_entropy, k_fired, k_own_metric, k_own_entropy]) AS n_matching,
        k_all
    FROM matches
    JOIN sizes USING (run_id)
    UNION ALL
    SELECT run_id, 'word', 'top_metric', 'run', label, n_metric, k_metric, k_all
    FROM words
    JOIN sizes USING (run_id)
    WHERE k_metric / n_metric > k_all / n_all
),
cells AS (
    SELECT
        run_id,
        part,
        tokens,
        within,
        label,
        CASE tokens WHEN 'top_metric' THEN n_valued WHEN 'top_entropy' THEN n_uncertain END AS n_scored,
        n_tokens,
        n_matching,
        n_matching / NULLIF(n_tokens, 0) AS share,
        n_matching / NULLIF(n_tokens, 0) / (k_all / n_all) AS enrichment,
        (n_matching / NULLIF(n_tokens - n_matching, 0))
        / NULLIF((k_all - n_matching) / NULLIF(n_all - n_tokens - k_all + n_matching, 0), 0) AS odds,
        (n_matching / NULLIF(n_tokens - n_matching, 0)) / (k_all / NULLIF(n_all - k_all, 0)) AS odds_over_all,
        [n_matching, n_tokens - n_matching, k_all - n_matching, n_all - n_tokens - k_all + n_matching] AS observed,
        [n_tokens * k_all / n_all, n_tokens * (n_all - k_all) / n_all,
            (n_all - n_tokens) * k_all / n_all, (n_all - n_tokens) * (n_all - k_all) / n_all] AS expected
    FROM rows
    JOIN sizes USING (run_id)
),
measured AS (
    SELECT *, CASE WHEN part = 'word' THEN 2 * list_sum(list_transform(
            observed, lambda o, i: CASE WHEN o > 0 THEN o * ln(o / expected[i]) ELSE 0 END)) END AS keyness
    FROM cells
)
SELECT
    run_id,
    part,
    label,
    tokens,
    within,
    n_tokens::BIGINT AS n_tokens,
    n_matching::BIGINT AS n_matching,
    share::DOUBLE AS share,
    enrichment::DOUBLE AS enrichment,
    CASE WHEN odds > 0 THEN odds END::DOUBLE AS odds_ratio,
    CASE WHEN odds_over_all > 0 THEN odds_over_all END::DOUBLE AS odds_over_all,
    keyness::DOUBLE AS keyness
FROM measured
QUALIFY part <> 'word' OR row_number() OVER (PARTITION BY run_id, part ORDER BY keyness DESC, label) <= $words
ORDER BY
    list_position($runs, run_id),
    list_position(['planning', 'category', 'word'], part),
    keyness DESC,
    label,
    within IS NOT DISTINCT FROM 'sample',
    list_position(['all', 'top_metric', 'top_entropy', 'takeovers'], tokens)
