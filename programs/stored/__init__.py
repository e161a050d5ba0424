"""What is worked out on stored runs, without a model: calibration, other gates, other graders."""
