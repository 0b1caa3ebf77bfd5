"""Detection, one statistic per file; each is a pure function of closed buckets up to the judged minute."""
