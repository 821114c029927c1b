"""What benchmarks.whole_way measures with, and how it shows what it found."""
