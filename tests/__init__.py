"""Mirrors the tree; names are sentences. Run: make test"""
