"""What rmkit is worth: scripts by question, run as `python -m benchmarks.FOLDER.NAME`, and their results."""
