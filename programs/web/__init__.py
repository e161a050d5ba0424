"""What serves over HTTP, whatever it answers: where it listens and for whom, bodies that come in, clients that leave."""
