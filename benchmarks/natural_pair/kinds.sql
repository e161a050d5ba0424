-- Of what kind are the tokens at which the models disagree most? Over the rollouts of the newest run of `diagnose`.
WITH rollouts AS (
    SELECT *, row_number() OVER (ORDER BY ce DESC) <= 0.08 * count(*) OVER () AS is_top,
        CASE
            WHEN regexp_full_match(token_text, ' ?[-+*/]') THEN 'operator: + - * /'
            WHEN regexp_full_match(token_text, ' ?[0-9]+') THEN 'digit'
            WHEN token_text = ' =' THEN 'equals sign'
            WHEN position = 0 OR lag(token_text) OVER sample = '.' THEN 'first word of a sentence'
            WHEN regexp_full_match(token_text, ' ?[a-zA-Z'']+') THEN 'other word'
            ELSE 'space, full stop, end'
        END AS kind
    FROM tokens JOIN samples USING (run_id, sample_id)
    WHERE run_id = (SELECT run_id FROM runs WHERE program = 'diagnose' ORDER BY created_at DESC LIMIT 1)
    WINDOW sample AS (PARTITION BY run_id, sample_id ORDER BY position)
)
SELECT kind, count(*) AS tokens, avg(ce) AS mean_ce, count(*) / sum(count(*)) OVER () AS share,
    sum(is_top::INT) / sum(sum(is_top::INT)) OVER () AS share_of_top, share_of_top / share AS enrichment
FROM rollouts GROUP BY kind ORDER BY enrichment DESC
