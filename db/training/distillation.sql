-- Rollouts with what both models say of each token: for distillation on the student's own text.
-- One row a sample that has scores of both models; lists have one number a token. The base model is the student.
-- reverse_kl, kl: over lists of k, lower bounds, as stored; nats. student_mass, teacher_mass: what each model's own list
-- holds of its probability. teacher_mass_on_student, student_mass_on_teacher: what the lists show of one model's probability
-- on the other's k tokens, no more than that model's own list holds. It is a lower bound: of a token that is in one list
-- alone the other model's probability is not stored; and within what the compact layout rounds lists by.
-- Parameters: $runs run ids
SELECT
    samples.base_prompt AS prompt,
    samples.text AS completion,
    samples.reasoning_prompt AS teacher_prompt,
    samples.correct,
    list(token_id ORDER BY position) AS token_ids,
    list(base_logprob ORDER BY position) AS student_logprobs,
    list(reasoning_logprob ORDER BY position) AS teacher_logprobs,
    list(reverse_kl ORDER BY position) AS reverse_kl,
    list(kl ORDER BY position) AS kl,
    list(1 - base_tail_mass ORDER BY position) AS student_mass,
    list(1 - reasoning_tail_mass ORDER BY position) AS teacher_mass,
    list(
        least(
            list_sum(
                list_transform(
                    list_filter(
                        list_zip(reasoning_topk_ids, reasoning_topk_logprobs),
                        lambda entry: list_contains(base_topk_ids, entry[1])
                    ),
                    lambda entry: exp(entry[2]::DOUBLE)
                )
            ),
            1 - reasoning_tail_mass
        ) ORDER BY position
    ) AS teacher_mass_on_student,
    list(
        least(
            list_sum(
                list_transform(
                    list_filter(
                        list_zip(base_topk_ids, base_topk_logprobs),
                        lambda entry: list_contains(reasoning_topk_ids, entry[1])
                    ),
                    lambda entry: exp(entry[2]::DOUBLE)
                )
            ),
            1 - base_tail_mass
        ) ORDER BY position
    ) AS student_mass_on_teacher,
    samples.run_id,
    samples.problem_id,
    samples.sample_id
FROM samples
JOIN tokens USING (run_id, sample_id)
WHERE run_id IN (SELECT unnest($runs))
GROUP BY ALL
HAVING count(reverse_kl) > 0
ORDER BY run_id, problem_id, sample_id
