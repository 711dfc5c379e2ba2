"""The names under which notebooks know the splitters and the statistics of `splits` and `statistics`."""
