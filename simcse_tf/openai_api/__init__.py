"""The OpenAI API's embeddings: requests, answers, and what has to stand behind them."""
