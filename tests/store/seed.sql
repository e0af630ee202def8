-- Rows as a seed system's report brings them: only its columns, by plain INSERTs. The two chats are those of its README.

INSERT INTO llm_logs.chatgpt_logs (id, request, usage_info, user_name, title, response_time, response, convo_title, convo_show, root_gpt_id) VALUES
('1a481b96-c7fd-4526-91b8-57bfb2a255a5', '{"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "write me a 1 sentence horror story"}]}', '{"total_tokens": 33, "prompt_tokens": 16, "completion_tokens": 17}', 'user', 'app', '2023-04-27 16:25:48.872857', '{"id": "chatcmpl-79yjFQdeeGuedzKcAbiHg0hlR52b6", "uuid": "1a481b96-c7fd-4526-91b8-57bfb2a255a5", "model": "gpt-3.5-turbo-0301", "usage": {"total_tokens": 33, "prompt_tokens": 16, "completion_tokens": 17}, "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "As I reached for the light switch in the darkness, a cold hand grabbed mine."}, "finish_reason": "stop"}], "created": 1682612749, "root_uuid": "1a481b96-c7fd-4526-91b8-57bfb2a255a5"}', 'A horror story was requested and extended.', true, '1a481b96-c7fd-4526-91b8-57bfb2a255a5'),
('3f04805a-78e7-4c13-842a-4f777f0dc7a9', '{"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "write me a 1 sentence horror story"}, {"role": "assistant", "content": "As I reached for the light switch in the darkness, a cold hand grabbed mine."}, {"role": "user", "content": "add another sentence to the story"}]}', '{"total_tokens": 71, "prompt_tokens": 49, "completion_tokens": 22}', 'user', 'app', '2023-04-27 16:28:01.604278', '{"id": "chatcmpl-79ylN0uGSnY8aPMgMRgPJB4cjba5p", "uuid": "3f04805a-78e7-4c13-842a-4f777f0dc7a9", "model": "gpt-3.5-turbo-0301", "usage": {"total_tokens": 71, "prompt_tokens": 49, "completion_tokens": 22}, "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "I turned around but no one was there, just a feeling of icy breath on the back of my neck."}, "finish_reason": "stop"}], "created": 1682612881, "root_uuid": "1a481b96-c7fd-4526-91b8-57bfb2a255a5"}', 'A horror story was requested and extended.', true, '1a481b96-c7fd-4526-91b8-57bfb2a255a5');

-- The seed's own title call, and a conversation that goes by the upstream's id.
INSERT INTO llm_logs.chatgpt_logs (id, request, usage_info, user_name, title, response_time, response, convo_title, convo_show, root_gpt_id) VALUES
('b7a1c1de-4d0c-4b39-8d3c-1d9bb1bb1a10', '{"model": "gpt-3.5-turbo", "messages": []}', '{"total_tokens": 50, "prompt_tokens": 40, "completion_tokens": 10}', 'user', 'app', '2023-04-27 16:29:00', '{}', 'summarizer', false, 'b7a1c1de-4d0c-4b39-8d3c-1d9bb1bb1a10'),
('c1f4f0a0-0000-4000-8000-000000000001', '{"model": "gpt-4", "messages": [{"role": "user", "content": "hello"}]}', '{"total_tokens": 7}', 'analyst', 'risk', '2023-04-28 09:00:00', '{}', NULL, true, 'chatcmpl-79zzz');

-- Without id, times and titles: the defaults do.
INSERT INTO llm_logs.chatgpt_logs (request, usage_info, user_name) VALUES
('{"model": "gpt-4", "messages": [{"role": "user", "content": "no root"}]}', NULL, 'analyst');

INSERT INTO llm_logs.image_logs (id, request, response, usage_cost, user_name, title, response_time) VALUES
('d2b0f0a0-0000-4000-8000-000000000002', '{"prompt": "a cat", "n": 2, "size": "256x256"}', '{"data": []}', 0.032, 'user', 'app', '2023-04-27 17:00:00');

INSERT INTO llm_logs.meta_summarizer_log (id, request, usage_info, user_name, title, response_time, response, orig_summarized_id) VALUES
('e3c0f0a0-0000-4000-8000-000000000003', '{"model": "gpt-3.5-turbo"}', '{"total_tokens": 9}', 'user', 'app', '2023-04-27 18:00:00', '{}', '3f04805a-78e7-4c13-842a-4f777f0dc7a9');
