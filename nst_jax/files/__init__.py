"""Bytes at rest: pictures, network weights, the ledger, the contact sheet."""
