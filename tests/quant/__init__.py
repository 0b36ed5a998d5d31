"""Tests of quant/."""
