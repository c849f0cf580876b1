"""The commands on stacks and images: `./inv stack.*` and `./inv images.*`."""
