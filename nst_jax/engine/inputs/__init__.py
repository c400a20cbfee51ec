"""Weights and pictures: opened, checked, and loaded on threads."""
