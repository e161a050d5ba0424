-- How good is each run, at which budget, and how much of the reasoning model's lead does it recover?
-- Definitions: n_samples and rho are over all samples; accuracy and pass_at_k over graded ones (with a reference
--   answer). rho_mean: mean over samples of n_takeovers / n_tokens; rho_pooled: all takeovers over all tokens; changed:
--   takeovers whose token differs from the base model's, over all tokens. truncated: share of samples that reached the limit
--   before an end; they are graded like the others. accuracy: mean over problems of the share of
--   its n graded samples that are right (c / n). pass_at_k: mean over problems of the unbiased estimate
--   1 - C(n - c, k) / C(n, k). recovery_accuracy, recovery_pass: (run - base) / (reasoning - base), 1 is all of the
--   lead, base and reasoning being the named runs on the same problem set; NULL when none are named or when they are equal.
--   Of runs in exchanged roles, whose base model is that of the named reasoning run alone, the ends are exchanged: 0 is the
--   model that writes, 1 its guest.
--   All are shares from 0 to 1.
--   part run: one run on one problem set. part average: runs of one configuration, each on another problem set; the mean over
--   problem sets of every column, of base and reasoning too, recovery from those means; n_problems and n_samples are sums.
--   A configuration with two runs on one problem set has no average: name one of them.
--   part seeds: a group of runs that differ in nothing but their seed, group_id its name: n_seeds runs; the mean over them of
--   every column, n_samples their sum. rho_sd (of rho_pooled), accuracy_sd, pass_at_k_sd: standard deviation over the seeds,
--   n_seeds - 1 in its denominator: what another seed changes on these very problems. The interval is of the mean, over
--   problems; it holds what draws contribute, since each problem has draws of its own.
-- Paper: main table, accuracy, Pass@8, rho and recovery, by benchmark and averaged over benchmarks (intervention).
-- Parameters: $runs run ids; $k of pass@k (default: as many as every problem has graded samples); $base, $reasoning runs or
--   NULL; by place of a run in $runs: $base_runs, $reasoning_runs the run it is compared with or NULL, $averages the number of
--   its average or NULL, $groups the name of its group of seeds or NULL, $passed its mean of pass@1, pass@2, ...
WITH chosen AS (
    SELECT
        unnest($runs) AS run_id,
        unnest(range(1, len($runs) + 1)) AS place,
        unnest($base_runs::VARCHAR[]) AS base_run,
        unnest($reasoning_runs::VARCHAR[]) AS reasoning_run,
        unnest($averages::INTEGER[]) AS average,
        unnest($groups::VARCHAR[]) AS group_id
),
problem_counts AS (
    SELECT run_id, problem_id, count(*) AS n, count(*) FILTER (correct) AS c
    FROM samples
    WHERE run_id IN (SELECT unnest($runs)) AND correct IS NOT NULL
    GROUP BY run_id, problem_id
),
graded AS (
    SELECT
        run_id,
        count(*) AS n_problems,
        avg(c / n) AS accuracy,
        any_value(passed[$k]) AS pass_at_k
    FROM problem_counts
    JOIN (SELECT unnest($runs) AS run_id, unnest($passed::DOUBLE[][]) AS passed) USING (run_id)
    GROUP BY run_id
),
budgets AS (
    SELECT
        run_id,
        count(*) AS n_samples,
        avg(n_takeovers / NULLIF(n_tokens, 0)) AS rho_mean,
        sum(n_takeovers) / NULLIF(sum(n_tokens), 0) AS rho_pooled,
        sum(n_changed) / NULLIF(sum(n_tokens), 0) AS changed,
        avg((finish_reason = 'length')::INTEGER) FILTER (finish_reason <> 'unknown') AS truncated
    FROM samples
    WHERE run_id IN (SELECT unnest($runs))
    GROUP BY run_id
),
compared AS (
    SELECT
        chosen.run_id,
        place,
        average,
        group_id,
        runs.program,
        runs.problem_set,
        graded.n_problems,
        budgets.* EXCLUDE (run_id),
        graded.accuracy,
        graded.pass_at_k,
        base.accuracy AS base_accuracy,
        base.pass_at_k AS base_pass,
        reasoning.accuracy AS reasoning_accuracy,
        reasoning.pass_at_k AS reasoning_pass
    FROM chosen
    JOIN runs USING (run_id)
    JOIN graded USING (run_id)
    JOIN budgets USING (run_id)
    LEFT JOIN graded AS base ON base.run_id = base_run
    LEFT JOIN graded AS reasoning ON reasoning.run_id = reasoning_run
),
rows AS (
    SELECT
        'run' AS part,
        * EXCLUDE (average) REPLACE (NULL AS group_id),
        NULL AS n_seeds,
        NULL AS rho_sd,
        NULL AS accuracy_sd,
        NULL AS pass_at_k_sd
    FROM compared
    UNION ALL
    SELECT
        'average',
        NULL,
        min(place),
        NULL,
        any_value(program),
        concat('mean of ', count(*)),
        sum(n_problems),
        sum(n_samples),
        avg(COLUMNS(compared.* EXCLUDE (run_id, place, average, group_id, program, problem_set, n_problems, n_samples))),
        NULL,
        NULL,
        NULL,
        NULL
    FROM compared
    WHERE average IS NOT NULL
    GROUP BY average
    UNION ALL
    SELECT
        'seeds',
        NULL,
        min(place),
        group_id,
        any_value(program),
        any_value(problem_set),
        max(n_problems),
        sum(n_samples),
        avg(COLUMNS(compared.* EXCLUDE (run_id, place, average, group_id, program, problem_set, n_problems, n_samples))),
        count(*),
        stddev_samp(rho_pooled),
        stddev_samp(accuracy),
        stddev_samp(pass_at_k)
    FROM compared
    WHERE group_id IS NOT NULL
    GROUP BY group_id
)
SELECT
    run_id,
    part,
    group_id::VARCHAR AS group_id,
    n_seeds::BIGINT AS n_seeds,
    program,
    problem_set,
    n_problems::BIGINT AS n_problems,
    n_samples::BIGINT AS n_samples,
    rho_mean,
    rho_pooled,
    rho_sd::DOUBLE AS rho_sd,
    changed,
    truncated,
    accuracy,
    accuracy_sd::DOUBLE AS accuracy_sd,
    $k AS k,
    pass_at_k,
    pass_at_k_sd::DOUBLE AS pass_at_k_sd,
    (accuracy - base_accuracy) / NULLIF(reasoning_accuracy - base_accuracy, 0) AS recovery_accuracy,
    (pass_at_k - base_pass) / NULLIF(reasoning_pass - base_pass, 0) AS recovery_pass
FROM rows
ORDER BY list_position(['run', 'average', 'seeds'], part), place
