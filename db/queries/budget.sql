-- How much accuracy does a budget buy, and where does more of it stop paying?
-- Definitions: one row for each run of a curve. A curve is the runs of one program, gate metric, lambda rule, rolling mean,
--   threshold of entropy (H>) and cooldown that share models, problems, temperature and top_p, in order of rho; it begins with
--   the run without takeovers on the same problems at the same temperature, where there is one (of several: program base, then
--   the first). rho: takeovers over tokens, all samples. accuracy: mean over problems of the share of graded samples that are right; pass_at_k: mean of
--   the unbiased estimate 1 - C(n - c, k) / C(n, k); k is common to a curve. All are shares from 0 to 1.
--   Of exchanged runs the model that writes is the base model of their rows, and their curve begins with the run of that model
--   alone: their own without takeovers, or, with rho 0, the run `reasoning` of the other direction. curve: program, metric and
--   lambda rule; and the models, the one that writes first, where the runs are of several pairs.
--   distance: of the point above the chord from the first to the last point of its curve, measured along $value, both
--   axes scaled to 0..1 over the curve. knee: the point of largest positive distance, of equal ones that of smaller rho
--   (after Satopaa et al. 2011, without smoothing), of a curve with at least five budgets, distinct rho above 0: the bend of
--   fewer is where somebody chose to measure. knee_note: why a curve has no knee; NULL where it has one.
-- Paper: budget curve, Pass@8 against rho (intervention).
-- Parameters: $runs run ids; $k of pass@k, NULL for the fewest graded samples of a problem of the curve; $of pass_at_k or
--   accuracy; $passed by run the mean of pass@1, pass@2, ...
WITH problem_counts AS (
    SELECT run_id, problem_id, count(*) AS n, count(*) FILTER (correct) AS c
    FROM samples
    WHERE run_id IN (SELECT unnest($runs)) AND correct IS NOT NULL
    GROUP BY run_id, problem_id
),
budgets AS (
    SELECT run_id, sum(n_takeovers) / NULLIF(sum(n_tokens), 0) AS rho
    FROM samples
    WHERE run_id IN (SELECT unnest($runs))
    GROUP BY run_id
),
problems_of AS (
    SELECT run_id, list(problem_id ORDER BY problem_id) AS problems, min(n) AS fewest
    FROM problem_counts
    GROUP BY run_id
),
described AS (
    SELECT
        runs.run_id,
        program,
        problem_set,
        base_model,
        reasoning_model,
        temperature,
        top_p,
        problems,
        fewest,
        rho,
        concat_ws(
            ', ',
            program,
            metric,
            CASE WHEN lambda_ IS NOT NULL THEN 'lambda, t<W: ' || warmup END,
            'rolling ' || (gate_params ->> '$.rolling'),
            'H>' || (gate_params ->> '$.entropy_tau'),
            'cooldown ' || (gate_params ->> '$.cooldown'),
            reasoning_model
        ) AS kind,
        concat_ws(
            ', ',
            program,
            metric,
            CASE WHEN lambda_ IS NOT NULL THEN 'lambda, t<W: ' || warmup END,
            'rolling ' || (gate_params ->> '$.rolling'),
            'H>' || (gate_params ->> '$.entropy_tau'),
            'cooldown ' || (gate_params ->> '$.cooldown'),
            CASE
                WHEN count(DISTINCT concat_ws(' ', base_model, reasoning_model)) OVER () > 1
                    THEN concat_ws(' + ', regexp_extract(base_model, '[^/]*$'), regexp_extract(reasoning_model, '[^/]*$'))
            END
        ) AS curve
    FROM runs
    JOIN budgets USING (run_id)
    JOIN problems_of USING (run_id)
),
alone AS (
    SELECT *, false AS of_other_direction FROM described WHERE rho = 0
    UNION ALL BY NAME
    SELECT * REPLACE (reasoning_model AS base_model, 0::DOUBLE AS rho), true AS of_other_direction
    FROM described
    WHERE program = 'reasoning' AND rho = 1 AND reasoning_model <> base_model
),
anchors AS (
    SELECT * EXCLUDE (of_other_direction)
    FROM alone
    QUALIFY row_number() OVER (
        PARTITION BY problem_set, base_model, temperature, top_p, problems
        ORDER BY of_other_direction, program <> 'base', list_position($runs, run_id)
    ) = 1
),
members AS (
    SELECT * FROM described WHERE rho > 0
    UNION ALL BY NAME
    SELECT anchors.* REPLACE (curves.kind AS kind, curves.curve AS curve)
    FROM anchors
    JOIN (
        SELECT DISTINCT kind, curve, problem_set, base_model, temperature, top_p, problems FROM described WHERE rho > 0
    ) AS curves
        ON curves.problem_set = anchors.problem_set
        AND curves.base_model IS NOT DISTINCT FROM anchors.base_model
        AND curves.temperature = anchors.temperature
        AND curves.top_p = anchors.top_p
        AND curves.problems = anchors.problems
    UNION ALL BY NAME
    SELECT described.*
    FROM described
    WHERE rho = 0
        AND NOT EXISTS (SELECT 1 FROM described AS other WHERE other.rho > 0 AND other.problems = described.problems)
),
placed AS (
    SELECT
        *,
        COALESCE($k::BIGINT, min(fewest) OVER same_curve) AS k,
        dense_rank() OVER (ORDER BY problem_set, temperature, top_p, problems, base_model, kind) AS curve_id
    FROM members
    WINDOW same_curve AS (PARTITION BY kind, problem_set, base_model, temperature, top_p, problems)
),
points AS (
    SELECT
        curve_id,
        run_id,
        any_value(placed.k) AS k,
        count(*) AS n_problems,
        avg(c / n) AS accuracy,
        any_value(passed[placed.k]) AS pass_at_k
    FROM placed
    JOIN problem_counts USING (run_id)
    JOIN (SELECT unnest($runs) AS run_id, unnest($passed::DOUBLE[][]) AS passed) USING (run_id)
    GROUP BY curve_id, run_id
),
valued AS (
    SELECT *, CASE $of WHEN 'accuracy' THEN accuracy ELSE pass_at_k END AS height
    FROM placed
    JOIN points USING (curve_id, run_id, k)
),
scaled AS (
    SELECT
        *,
        count(DISTINCT NULLIF(rho, 0)) OVER whole AS n_budgets,
        (rho - min(rho) OVER whole) / NULLIF(max(rho) OVER whole - min(rho) OVER whole, 0) AS x,
        (height - min(height) OVER whole) / NULLIF(max(height) OVER whole - min(height) OVER whole, 0) AS y
    FROM valued
    WINDOW whole AS (PARTITION BY curve_id)
),
measured AS (
    SELECT
        *,
        CASE
            WHEN n_budgets >= 5
                THEN y - first(y) OVER along - (last(y) OVER along - first(y) OVER along) * x
        END AS distance
    FROM scaled
    WINDOW along AS (
        PARTITION BY curve_id ORDER BY rho, list_position($runs, run_id)
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    )
)
SELECT
    run_id,
    curve_id,
    curve,
    program,
    problem_set,
    temperature,
    n_problems,
    rho,
    accuracy,
    k,
    pass_at_k,
    distance,
    COALESCE(
        distance > 1e-12
        AND row_number() OVER (PARTITION BY curve_id ORDER BY round(distance, 12) DESC NULLS LAST, rho) = 1,
        false
    ) AS knee,
    CASE
        WHEN n_budgets < 5 THEN format('{} budget{}; a knee needs 5', n_budgets, CASE WHEN n_budgets <> 1 THEN 's' ELSE '' END)
        WHEN max(distance) OVER (PARTITION BY curve_id) IS NULL THEN 'all points have the same rho or the same height'
        WHEN max(distance) OVER (PARTITION BY curve_id) <= 1e-12 THEN 'no point lies above the chord'
    END AS knee_note
FROM measured
ORDER BY curve_id, rho, list_position($runs, run_id)
