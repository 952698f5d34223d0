"""What Kafka keeps: effects and states, kept outcomes, and their comparison with a bucket."""
