"""Providers of other dialects, faked: Anthropic, OpenAI (chat completions and responses), Gemini, Bedrock and Cohere, each speaking its own API.

They answer by scenario (`scenarios.py`), record every request, and refuse one that the real API would refuse: bodies are checked against the
vendors' own SDK types, and against the rules that are in no type (pairs of calls and results, order of roles, signatures). Forms of the replies
follow recorded traffic; the modules name it.
"""
