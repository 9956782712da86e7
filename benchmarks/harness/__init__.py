"""What benchmarks share: servers to measure and yardsticks beside them, and a load generator."""
