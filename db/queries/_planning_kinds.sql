-- What is the text and the planning tag of each token of a run?
-- Definitions: in the order in which the tokens are stored.
-- Parameters: $run run id
SELECT token_text, planning_tag AS tag FROM tokens WHERE run_id = $run
